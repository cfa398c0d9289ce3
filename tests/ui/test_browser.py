"""The page in a real browser: Chromium without a window, driven as a visitor would."""

from __future__ import annotations

import os
import shutil
import time
import zipfile
from contextlib import suppress

import numpy as np
import pytest
import torch
from PIL import Image

from nerveseg import Click
from nerveseg.synthetic import bundled
from nerveseg.ui.run import serving
from nerveseg.ui.state import Desks
from nerveseg.ui.work import Work

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Gradio's, in the server's thread

_PATIENCE = 90_000  # milliseconds: other tests have the processor, too
_ROOSTER, _FRUIT = bundled.scenes()[1], bundled.scenes()[2]
_WORDS = "rooster, penguin, sky, sand"


def _browser_here():
    """Chromium, as Debian's package has it. Under CI it must be there."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None and not os.environ.get("CI"):
        pytest.skip("no chromium here: apt-get install chromium")
    return found


@pytest.fixture(scope="module")
def work(mini):
    """What the page calls."""
    return Work(mini, Desks(closed=5.0))


@pytest.fixture(scope="module")
def address(work):
    """The page, served to this machine."""
    with serving(work, "127.0.0.1", 0, "cpu") as found:
        yield found


@pytest.fixture(scope="module")
def chromium():
    """A browser for this file alone: its driver holds the thread's event loop, which other tests need."""
    from playwright.sync_api import sync_playwright

    path = _browser_here()
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])  # the gate runs as root
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, address):
    """Open the page in a context of its own: ``visit(width, height)``. Nothing but this machine may be asked, no script may fail."""
    contexts, asked, failed = [], [], []

    def make(width=1280, height=860, **kind):
        context = chromium.new_context(viewport={"width": width, "height": height}, **kind)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(_PATIENCE)
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: failed.append(str(error)))
        page.goto(address)
        page.locator(".nv-thumb").first.wait_for()
        page.locator("#save").wait_for()  # the last of the page: what Tab reaches is there
        return page

    yield make
    for context in contexts:
        context.close()
    assert failed == []
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


def _drop(page, path, words=""):
    """Choose a file, and wait for what comes of it."""
    if words:
        page.fill("#words input, #words textarea", words)
    before = _serial(page)
    page.set_input_files(".nv-file", path)
    _wait(page, before)


def _serial(page):
    return page.evaluate("document.querySelector('.nv-stage').dataset.serial || '0'")


def _wait(page, before, patience=_PATIENCE):
    from playwright.sync_api import TimeoutError as PlaywrightTimeout

    changed = "before => (document.querySelector('.nv-stage').dataset.serial || '0') !== before"
    try:
        page.wait_for_function(changed, arg=before, timeout=patience)
    except PlaywrightTimeout as error:
        raise AssertionError(f"nothing came of it; the page says {_said(page)}") from error


def _said(page):
    return page.inner_text("#notice"), page.inner_text("#stage"), page.input_value("#words input, #words textarea")


def _enter(page, field, text):
    """Type into a field that has just appeared, and wait for what comes of it: Gradio may draw a field before it hears what is typed."""
    before = _serial(page)
    until = time.monotonic() + _PATIENCE / 1000
    while _serial(page) == before and time.monotonic() < until:
        page.fill(field, text)
        page.press(field, "Enter")
        with suppress(AssertionError):
            _wait(page, before, patience=15_000)
    assert _serial(page) != before, _said(page)


def _at(page, x, y, size):
    """Where a pixel of the image is on the screen."""
    page.locator(".nv-canvas").scroll_into_view_if_needed()
    box = page.locator(".nv-canvas").bounding_box()
    return box["x"] + (x + 0.5) / size[1] * box["width"], box["y"] + (y + 0.5) / size[0] * box["height"]


def _told(page, x, y, size):
    """What the page says of a pixel: name and percent."""
    page.mouse.move(*_at(page, x, y, size))
    page.locator(".nv-tip").wait_for()
    return page.inner_text(".nv-tip-name"), int(page.inner_text(".nv-tip-sure").split()[0])


def _expected(result, x, y):
    return result.id2label[int(result.segmentation[y, x])], round(100 * float(result.confidence()[y, x]))


@pytest.fixture(scope="module")
def rooster(mini):
    """The rooster's encoding, and its labels made without the page."""
    encoding = mini.encode(_ROOSTER.path)
    return encoding, mini.decode(encoding, _WORDS.split(", "))


def test_an_image_and_words_become_labels_under_the_pointer(visit, rooster):
    page, (_, result) = visit(), rooster
    _drop(page, _ROOSTER.path)
    assert "Type what is in the image" in page.inner_text(".nv-hint")
    before = _serial(page)
    page.fill("#words input, #words textarea", _WORDS)
    page.press("#words input, #words textarea", "Enter")
    _wait(page, before)
    height, width = result.size
    for x, y in [(10, 10), (width // 2, height // 3), (width - 5, height - 5), (20, height - 30)]:
        name, percent = _told(page, x, y, result.size)
        assert (name, percent) == _expected(result, x, y)
    shares = result.shares()
    listed = page.locator(".nv-entry .nv-name").all_inner_texts()
    assert listed == sorted(shares, key=lambda name: -shares[name])
    assert not page.locator("#notice .nv-notice").is_visible()


def test_a_click_corrects_and_is_taken_back(visit, mini, rooster):
    page, (encoding, result) = visit(), rooster
    _drop(page, _ROOSTER.path, _WORDS)
    x, y = (int(place) for place in torch.nonzero(result.label2id["sky"] == result.segmentation.T)[50])
    page.mouse.click(*_at(page, x, y, result.size))
    assert "Choose a label" in page.inner_text(".nv-hint")
    page.locator(".nv-pick", has_text="sand").click()
    before = _serial(page)
    page.mouse.click(*_at(page, x, y, result.size))
    _wait(page, before)
    expected = mini.correct(encoding, _WORDS.split(", ")).add(Click("sand", points=(x + 0.5, y + 0.5))).result
    assert _told(page, x, y, result.size) == _expected(expected, x, y)
    assert _told(page, x, y, result.size)[0] == "sand"
    assert "without a network pass" in page.inner_text(".nv-hint")
    before = _serial(page)
    page.click(".nv-undo")
    _wait(page, before)
    assert _told(page, x, y, result.size) == _expected(result, x, y)
    assert page.locator(".nv-undo").is_disabled()


def test_a_new_label_comes_by_a_click_alone_and_its_markup_is_text(visit, rooster):
    page, (_, result) = visit(), rooster
    _drop(page, _ROOSTER.path, _WORDS)
    name = "<img src=x onerror=alert(1)>"
    page.fill(".nv-new-name", name)
    page.press(".nv-new-name", "Enter")
    before = _serial(page)
    page.mouse.click(*_at(page, 30, 60, result.size))
    _wait(page, before)
    assert _told(page, 30, 60, result.size)[0] == name
    assert name in page.locator(".nv-entry .nv-name").all_inner_texts()
    assert page.locator("img[src=x]").count() == 0


def test_words_with_markup_are_shown_as_text(visit):
    page = visit()
    words = "<b>rooster</b>, {{sky}} ${1+1}, <script>document.title='taken'</script>, sand"
    _drop(page, _ROOSTER.path, words)
    listed = page.locator(".nv-entry .nv-name").all_inner_texts()
    assert set(listed) == set(words.split(", "))
    notes = page.inner_text("#notice .nv-notice")  # words that the small text tower does not know
    assert "<script>document.title='taken'</script>" in notes
    assert page.title() == "nerveseg"
    assert page.locator(".nv b, .nv script, #notice b, #notice script").count() == 0


@pytest.fixture
def passes(mini):
    """A list that grows with every pass of a network."""
    seen = []
    parts = [part for network in mini.networks.values() for part in vars(network).values() if isinstance(part, torch.nn.Module)]
    handles = [part.register_forward_pre_hook(lambda *_: seen.append(1)) for whole in parts for part in (whole, *whole.children())]
    yield seen
    for handle in handles:
        handle.remove()


def test_a_slider_answers_from_the_encoding(visit, mini, rooster, passes):
    page, (encoding, result) = visit(), rooster
    _drop(page, _ROOSTER.path, _WORDS)
    assert passes
    passes.clear()
    before = _serial(page)
    page.locator("#beta input[type=number]").fill("0.8")
    page.locator("#beta input[type=number]").press("Enter")
    _wait(page, before)
    assert passes == []
    assert "without a network pass" in page.inner_text(".nv-hint")
    expected = mini.decode(encoding, _WORDS.split(", "), settings={"transition.beta": 0.8})
    differ = torch.nonzero((expected.confidence() - result.confidence()).abs().T > 0.05).tolist()
    assert differ
    for x, y in differ[:: max(1, len(differ) // 3)][:3]:
        assert _told(page, x, y, result.size) == _expected(expected, x, y)


def test_steps_are_for_walks_that_are_cut_short(visit, mini, rooster):
    page, (encoding, result) = visit(), rooster
    _drop(page, _ROOSTER.path, _WORDS)
    assert page.locator("#steps input[type=number]").is_disabled()
    before = _serial(page)
    page.locator("#endless input").uncheck()
    _wait(page, before)
    before = _serial(page)
    page.locator("#steps input[type=number]").fill("0")
    page.locator("#steps input[type=number]").press("Enter")
    _wait(page, before)
    expected = mini.decode(encoding, _WORDS.split(", "), settings={"walk.name": "truncated", "walk.steps": 0})
    for x, y in [(10, 10), (60, 60), (100, 140)]:
        assert _told(page, x, y, result.size) == _expected(expected, x, y)


def test_files_are_those_that_a_writer_writes(visit, rooster, tmp_path):
    page, (_, result) = visit(), rooster
    _drop(page, _ROOSTER.path, _WORDS)
    (tmp_path / "ours").mkdir()
    with page.expect_download() as waited:
        page.click("#save")
    waited.value.save_as(tmp_path / "got.zip")
    assert waited.value.suggested_filename == "rooster-png.zip"
    result.save(tmp_path / "ours" / "rooster.png")
    with zipfile.ZipFile(tmp_path / "got.zip") as archive:
        for name in archive.namelist():
            assert archive.read(name) == (tmp_path / "ours" / name).read_bytes()
    page.click("#format input")
    page.get_by_role("option", name="overlay").click()
    with page.expect_download() as waited:
        page.click("#save")
    waited.value.save_as(tmp_path / "got.png")
    assert waited.value.suggested_filename == "rooster.overlay.png"
    (path,) = result.save(tmp_path / "ours" / "rooster.overlay.png")
    assert (tmp_path / "got.png").read_bytes() == path.read_bytes()


def test_an_error_is_told_as_to_a_person(visit, tmp_path):
    page = visit()
    _drop(page, _ROOSTER.path)
    page.fill("#words input, #words textarea", "sky, Sky")
    page.click("#go")
    notice = page.locator("#notice .nv-notice")
    notice.wait_for()
    said = notice.inner_text()
    assert said.startswith("Got 'sky' twice")
    assert "Accepted are words" in said
    assert "Traceback" not in page.content()
    page.fill("#words input, #words textarea", _WORDS)
    (tmp_path / "broken.png").write_bytes(_ROOSTER.path.read_bytes()[:200])
    page.set_input_files(".nv-file", tmp_path / "broken.png")
    page.wait_for_function("document.querySelector('.nv-notice').textContent.includes('broken')")
    page.click("#go")
    page.wait_for_function("document.querySelector('.nv-notice').textContent.startsWith('Got no image')")


def test_two_visitors_do_not_mix(visit, mini, rooster):
    one, two, (_, result) = visit(), visit(), rooster
    other = mini.decode(mini.encode(_FRUIT.path), ["apple", "rabbit", "grass"])
    _drop(one, _ROOSTER.path, _WORDS)
    _drop(two, _FRUIT.path, "apple, rabbit, grass")
    for page, expected in ((one, result), (two, other), (one, result)):
        before = _serial(page)
        page.click("#go")
        _wait(page, before)
        for x, y in [(15, 20), (70, 90), (120, 110)]:
            assert _told(page, x, y, expected.size) == _expected(expected, x, y)
    befores = [_serial(page) for page in (one, two)]
    for page in (one, two):
        page.click("#go")
    for page, before in zip((one, two), befores, strict=True):
        _wait(page, before)
    assert _told(one, 70, 90, result.size) == _expected(result, 70, 90)
    assert _told(two, 70, 90, other.size) == _expected(other, 70, 90)


def test_a_phone_shows_it_without_scrolling_sideways(visit):
    page = visit(390, 844, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator(".nv-thumb").first.tap()
    page.locator(".nv-entry").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator(".nv-canvas").tap(position={"x": 60, "y": 60})
    assert page.locator(".nv-tip").is_visible()
    assert all(box["height"] >= 36 for box in (button.bounding_box() for button in page.locator(".nv button:visible").all()))


def test_the_keyboard_alone_will_do(visit):
    page = visit()
    _drop(page, _ROOSTER.path)
    reached = []
    page.locator("body").press("Tab")
    for _ in range(40):
        now = page.evaluate("(() => { const n = document.activeElement; return (n.closest('[id]') || n).id + ' ' + n.className; })()")
        reached.append(now)
        if "words" in now:
            break
        page.keyboard.press("Tab")
    assert any("nv-canvas" in each for each in reached)
    assert any("nv-thumb" in each for each in reached)
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    before = _serial(page)
    page.keyboard.type(_WORDS)
    page.keyboard.press("Enter")
    _wait(page, before)
    page.locator(".nv-canvas").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    said = page.inner_text(".nv-said")
    assert said.split(",")[0] in _WORDS
    page.locator(".nv-pick", has_text="sky").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
    page.locator(".nv-canvas").focus()
    page.keyboard.press("ArrowDown")
    before = _serial(page)
    page.keyboard.press("Enter")
    _wait(page, before)
    assert page.inner_text(".nv-said").split(",")[0] in _WORDS
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowDown")
    assert page.inner_text(".nv-said").startswith("sky")


def test_before_and_after_and_what_is_hidden(visit, rooster):
    page, (_, result) = visit(), rooster
    _drop(page, _ROOSTER.path, _WORDS)
    image = np.asarray(Image.open(_ROOSTER.path).convert("RGB")).astype(int)
    scale = page.evaluate("document.querySelector('.nv-canvas').width") // result.size[1]

    def colour(x, y):
        page.wait_for_timeout(100)
        found = page.evaluate(
            "([x, y]) => [...document.querySelector('.nv-canvas').getContext('2d').getImageData(x, y, 1, 1).data]",
            [int((x + 0.5) * scale), int((y + 0.5) * scale)],
        )
        return np.array(found[:3])

    x, y = 20, 60
    labelled = colour(x, y)
    assert np.abs(labelled - image[y, x]).max() > 20
    page.locator(".nv-wipe").fill("60")
    assert np.abs(colour(x, y) - image[y, x]).max() < 20
    page.locator(".nv-wipe").fill("0")
    assert np.abs(colour(x, y) - labelled).max() < 3
    name = _expected(result, x, y)[0]
    page.get_by_role("button", name=f"Hide {name}").click()
    assert np.abs(colour(x, y) - image[y, x]).max() < 20
    page.get_by_role("button", name=f"Show {name}").click()
    page.mouse.move(5, 5)
    page.locator(".nv-new-name").focus()
    assert np.abs(colour(x, y) - labelled).max() < 3


def test_a_scene_brings_its_words(visit, mini):
    page = visit()
    page.locator(".nv-thumb").nth(2).click()
    page.locator(".nv-entry").first.wait_for()
    assert page.input_value("#words input, #words textarea") == ", ".join(_FRUIT.labels)
    expected = mini.decode(mini.encode(_FRUIT.path), list(_FRUIT.labels))
    assert _told(page, 70, 90, expected.size) == _expected(expected, 70, 90)


def test_the_rest_becomes_background(visit, mini):
    page = visit()
    _drop(page, _ROOSTER.path, "rooster")
    assert "single label" in page.inner_text("#notice .nv-notice")
    page.get_by_label("These words are background").check()
    _enter(page, "#others input, #others textarea", "sky, sand")
    expected = mini.decode(mini.encode(_ROOSTER.path), ["rooster"], background=["sky", "sand"])
    assert "background" in page.locator(".nv-entry .nv-name").all_inner_texts()
    assert _told(page, 10, 10, expected.size) == _expected(expected, 10, 10)


def test_a_desk_is_cleared_when_the_page_is_closed(visit, work):
    page = visit()
    _drop(page, _ROOSTER.path)
    here = len(work.desks)
    assert here >= 1
    page.close()
    until = time.monotonic() + 30
    while len(work.desks) >= here and time.monotonic() < until:
        work.desks.sweep()
        time.sleep(0.2)
    assert len(work.desks) < here


_SEEN = """(() => {
  for (let node = document.activeElement, up = 0; node && up < 4; node = node.parentElement, up++) {
    const style = getComputedStyle(node);
    if (style.outlineStyle !== 'none' || style.boxShadow !== 'none') return true;
  }
  return false;
})()"""  # whether one sees where the keyboard is


def test_tab_reaches_everything_in_the_order_of_the_work(visit):
    page = visit()
    order = [".nv-file", ".nv-thumb", "#words", "#background", "#go", "#alpha", "#beta", "#endless", "#format", "#save"]
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        at = page.evaluate("order => order.findIndex(each => document.activeElement.closest(each))", order)
        if at >= 0 and (not reached or reached[-1] != order[at]):
            reached.append(order[at])
            assert page.evaluate(_SEEN), order[at]
        if reached[-1:] == ["#save"]:
            break
    assert reached == order
    page = visit()
    page.on("filechooser", lambda _: None)  # from here on, not from when the key is pressed: that would be a race
    page.keyboard.press("Tab")
    page.wait_for_function("document.activeElement.matches('.nv-file')")
    with page.expect_file_chooser() as chosen:
        page.keyboard.press("Space")
    before = _serial(page)
    chosen.value.set_files(_ROOSTER.path)
    _wait(page, before)
    for key in ("#steps input[type=number]", "#steps input[type=range]"):
        assert page.locator(key).is_disabled()  # not in the order, as long as the walk goes to its end


def test_the_name_of_a_file_is_text_and_leads_nowhere(visit, tmp_path):
    page = visit()
    evil = tmp_path / "<img src=x onerror=alert(1)> ‮gnp.png"
    shutil.copy(_ROOSTER.path, evil)
    _drop(page, evil, _WORDS)
    with page.expect_download() as waited:
        page.click("#save")
    assert waited.value.suggested_filename.endswith("-png.zip")
    assert "‮" not in waited.value.suggested_filename
    assert "/" not in waited.value.suggested_filename
    assert page.locator("img[src=x]").count() == 0
    broken = tmp_path / "<b>broken.png"
    broken.write_bytes(b"x")
    page.set_input_files(".nv-file", broken)
    page.wait_for_function("document.querySelector('.nv-notice').textContent.includes('broken.png')")
    assert page.locator("#notice b, .nv b").count() == 0


def test_a_file_that_is_too_large_is_told(visit, tmp_path):
    page = visit()
    (tmp_path / "large.png").write_bytes(_ROOSTER.path.read_bytes() + bytes(51 << 20))
    page.set_input_files(".nv-file", tmp_path / "large.png")
    page.wait_for_function("document.querySelector('.nv-hint').textContent.startsWith('Got large.png, which could not be sent')")
    assert "50 MiB" in page.inner_text(".nv-hint")
    _drop(page, _ROOSTER.path)


def test_what_is_said_after_a_click_is_what_was_clicked(visit, rooster):
    page, (_, result) = visit(), rooster
    _drop(page, _ROOSTER.path, _WORDS)
    x, y = (int(place) for place in torch.nonzero(result.label2id["sky"] == result.segmentation.T)[50])
    assert _told(page, x, y, result.size)[0] == "sky"
    page.fill(".nv-new-name", "airplane")
    page.press(".nv-new-name", "Enter")
    before = _serial(page)
    page.mouse.click(*_at(page, x, y, result.size))
    assert page.inner_text(".nv-tip-name") == "airplane"
    _wait(page, before)
    assert page.inner_text(".nv-tip-name") == "airplane"  # the mouse was not moved
    assert page.inner_text(".nv-said").startswith("airplane")


def test_a_drag_is_no_click_and_keys_take_back_and_bring_again(visit, rooster):
    page, (_, result) = visit(), rooster
    _drop(page, _ROOSTER.path, _WORDS)
    page.locator(".nv-pick", has_text="sand").click()
    (x, y), (far_x, far_y) = _at(page, 20, 20, result.size), _at(page, 60, 60, result.size)
    for way in ([(far_x, far_y)], [(far_x, far_y), (x, y)]):  # also where it comes back to where it began
        page.mouse.move(x, y)
        page.mouse.down()
        for place in way:
            page.mouse.move(*place, steps=4)
        page.mouse.up()
    page.wait_for_timeout(300)
    assert page.locator(".nv-undo").is_disabled()
    first = _serial(page)
    page.mouse.click(x, y)
    _wait(page, first)
    for keys, undone in (("Control+z", True), ("Control+Shift+z", False), ("Control+z", True), ("Control+y", False)):
        before = _serial(page)
        page.keyboard.press(keys)
        _wait(page, before)
        assert page.locator(".nv-undo").is_disabled() == undone
        assert page.locator(".nv-redo").is_disabled() != undone
        assert _told(page, 20, 20, result.size)[0] == ("sky" if undone else "sand")
    page.locator("#words textarea").focus()
    before = _serial(page)
    page.keyboard.press("Control+z")  # of the text, there
    page.wait_for_timeout(300)
    assert _serial(page) == before


def test_a_reload_keeps_image_words_and_clicks_of_the_tab(visit, rooster):
    page, (_, result) = visit(), rooster
    _drop(page, _ROOSTER.path, _WORDS)
    page.locator(".nv-pick", has_text="sand").click()
    before = _serial(page)
    page.mouse.click(*_at(page, 20, 20, result.size))
    _wait(page, before)
    page.reload()
    page.locator(".nv-entry").first.wait_for()
    assert page.input_value("#words textarea") == _WORDS
    assert page.locator(".nv-undo").is_enabled()
    assert _told(page, 20, 20, result.size)[0] == "sand"
    before = _serial(page)
    page.click(".nv-undo")
    _wait(page, before)
    assert _told(page, 20, 20, result.size) == _expected(result, 20, 20)
    other = visit()  # another tab has nothing of it
    other.wait_for_timeout(500)
    assert other.locator(".nv-entry").count() == 0


def test_a_number_that_no_slider_gives_is_told_and_leaves_no_traceback(visit, capfd):
    page = visit()
    _drop(page, _ROOSTER.path, _WORDS)
    before = _serial(page)
    page.locator("#endless input").uncheck()
    _wait(page, before)
    page.locator("#steps input[type=number]").fill("500")
    page.locator("#steps input[type=number]").press("Enter")
    page.wait_for_function("document.querySelector('.nv-notice').textContent.startsWith('Got 500 for Steps')")
    assert "Traceback" not in "".join(capfd.readouterr())
    assert page.locator(".toast-body").count() == 0


def _shown_whole(page, selector):
    return page.evaluate(
        """(selector) => { const box = document.querySelector(selector).getBoundingClientRect();
        return box.top >= 0 && box.bottom <= innerHeight + 1 && box.left >= 0 && box.right <= innerWidth; }""",
        selector,
    )


def test_on_a_phone_words_come_before_what_they_gave_and_errors_are_in_view(visit):
    page = visit(390, 844, has_touch=True, is_mobile=True)
    tops = {name: page.locator(name).bounding_box()["y"] for name in ("#words", "#go", ".nv-examples")}
    assert tops["#words"] < tops["#go"] < tops[".nv-examples"]
    words = "rooster, penguin, sky, sand, umbrella, rabbit, apple; fruit, tractor, octopus"
    _drop(page, _ROOSTER.path, words)
    tops = {name: page.locator(name).bounding_box()["y"] for name in (".nv-canvas", "#words", "#go", ".nv-legend", "#knobs", "#save-row")}
    assert sorted(tops, key=tops.get) == list(tops)
    field = page.locator("#words textarea")
    assert field.evaluate("each => each.scrollHeight <= each.clientHeight + 1")  # all of the words are to be seen
    page.fill("#words textarea", "sky, Sky")
    page.press("#words textarea", "Enter")
    page.wait_for_function("document.querySelector('.nv-notice').textContent.startsWith('Got')")
    page.wait_for_timeout(400)
    assert _shown_whole(page, "#notice .nv-notice")
    for knob in ("#alpha", "#beta"):  # a knob is 16 pixels and its edge, its line 8
        assert page.locator(f"{knob} input[type=range]").bounding_box()["height"] >= 20
