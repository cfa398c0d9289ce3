"""A visitor's image that holds its decoder holds nobody else."""

from __future__ import annotations

import threading
from io import BytesIO

from PIL import Image

from nerveseg.ui.work import Work


def test_other_visitors_of_the_page_do_not_wait_for_a_slow_image(mini):
    sound = BytesIO()
    Image.new("RGB", (30, 20), "teal").save(sound, "PNG")
    work = Work(mini)
    work.readers.warm()
    slow = b"qoif" + (3000).to_bytes(4, "big") * 2 + b"\3\0" + b"\x40" * 9_000_000
    failed = []

    def hold():
        try:
            work.open("slow", slow)
        except Exception as error:
            failed.append(error)

    holding = threading.Thread(target=hold, daemon=True)
    holding.start()
    assert work.open("quick", sound.getvalue()).encoding.image.size == (20, 30)
    assert holding.is_alive()
    work.readers.close()
    holding.join(30)
    assert "closed" in str(failed[0])
