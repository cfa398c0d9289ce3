"""What the embedded world is made of: 104 things, each with the emoji that draws it, and 8 stuffs."""

from __future__ import annotations

__all__ = ["GLYPHS", "NAMES", "STUFF", "THINGS"]

GLYPHS: dict[str, str] = {
    # animals
    "dog": "🐕", "cat": "🐈", "horse": "🐎", "cow": "🐄", "pig": "🐖", "sheep": "🐑", "goat": "🐐", "elephant": "🐘",
    "tiger": "🐅", "leopard": "🐆", "camel": "🐫", "giraffe": "🦒", "kangaroo": "🦘", "monkey": "🐒", "gorilla": "🦍", "rabbit": "🐇",
    "mouse": "🐁", "squirrel": "🐿", "hedgehog": "🦔", "rooster": "🐓", "duck": "🦆", "penguin": "🐧", "owl": "🦉", "flamingo": "🦩",
    "parrot": "🦜", "turtle": "🐢", "snake": "🐍", "crocodile": "🐊", "frog": "🐸", "fish": "🐟", "shark": "🦈", "whale": "🐋",
    "octopus": "🐙", "crab": "🦀", "butterfly": "🦋", "ladybug": "🐞",
    # food
    "apple": "🍎", "banana": "🍌", "orange": "🍊", "lemon": "🍋", "pear": "🍐", "peach": "🍑", "cherry": "🍒", "strawberry": "🍓",
    "grapes": "🍇", "watermelon": "🍉", "pineapple": "🍍", "coconut": "🥥", "tomato": "🍅", "carrot": "🥕", "corn": "🌽", "eggplant": "🍆",
    "broccoli": "🥦", "mushroom": "🍄", "bread": "🍞", "cheese": "🧀", "pizza": "🍕", "hamburger": "🍔", "donut": "🍩", "cake": "🎂",
    "pretzel": "🥨", "cactus": "🌵", "sunflower": "🌻",
    # vehicles
    "car": "🚗", "bus": "🚌", "truck": "🚚", "tractor": "🚜", "bicycle": "🚲", "scooter": "🛵", "train": "🚂", "airplane": "✈",
    "helicopter": "🚁", "rocket": "🚀", "sailboat": "⛵", "ship": "🚢",
    # objects
    "chair": "🪑", "bed": "🛏", "lamp": "💡", "clock": "⏰", "telephone": "☎", "camera": "📷", "television": "📺", "laptop": "💻",
    "book": "📕", "pencil": "✏", "scissors": "✂", "hammer": "🔨", "key": "🔑", "umbrella": "☂", "guitar": "🎸", "trumpet": "🎺",
    "drum": "🥁", "violin": "🎻", "balloon": "🎈", "football": "⚽", "basketball": "🏀", "kite": "🪁", "hat": "🎩", "shoe": "👟",
    "dress": "👗", "backpack": "🎒", "tent": "⛺", "house": "🏠", "candle": "🕯",
}  # fmt: skip
"""Thing → the character of Noto Color Emoji that draws it."""

THINGS: tuple[str, ...] = tuple(GLYPHS)
STUFF: tuple[str, ...] = ("grass", "sky", "water", "sand", "brick wall", "snow", "wooden floor", "road")
NAMES: tuple[str, ...] = THINGS + STUFF
"""Every name of the world; a mask's id is its place here."""
