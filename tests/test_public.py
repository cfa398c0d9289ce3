from __future__ import annotations

import resource
import subprocess
import sys

import pytest
import torch

import nerveseg

HEAVY = ("torch", "transformers", "diffusers", "numpy", "PIL", "scipy", "matplotlib")


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=6000).stdout


def test_public_names_are_few_sorted_and_there():
    assert len(nerveseg.__all__) <= 20
    assert nerveseg.__all__ == sorted(nerveseg.__all__)
    for name in nerveseg.__all__:
        assert getattr(nerveseg, name) is not None
        assert name in dir(nerveseg)


def test_a_public_name_is_the_one_of_its_module():
    from nerveseg.image.load import load_image
    from nerveseg.refinement import refine
    from nerveseg.segmenter import Segmenter

    assert nerveseg.Segmenter is Segmenter
    assert nerveseg.load_image is load_image
    assert nerveseg.refine is refine
    assert nerveseg.walk.infinite.__module__ == "nerveseg.walk.infinite"
    assert nerveseg.transition.build.__module__ == "nerveseg.transition.assemble"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Picture", "LoadedImage"),
        ("PictureError", "ImageError"),
        ("Seed", "Click"),
        ("UntrainedWord", "UntrainedWordWarning"),
        ("load", "load_image"),
    ],
)
def test_a_name_that_moved_is_found_and_tells_the_new_one(old, new):
    with pytest.warns(DeprecationWarning, match=f"is called {new} now"):
        assert getattr(nerveseg, old) is getattr(nerveseg, new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("neighbours.segments", "integrations.segments"),
        ("picture.load", "image.load"),
        ("world.bundled", "synthetic.bundled"),
    ],
)
def test_a_package_that_moved_is_found_and_tells_the_new_one(old, new):
    code = f"import nerveseg.{old} as found, nerveseg.{new} as now; print(found.__file__ == now.__file__)"
    done = subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
    assert f"is called nerveseg.{new.partition('.')[0]} now" in done.stderr


def test_clicks_were_called_seeds(mini, image):
    encoding, click = mini.encode(image), nerveseg.Click("cat", points=(3, 4))
    with pytest.warns(DeprecationWarning, match=r"decode\(clicks=…\)"):
        old = mini.decode(encoding, ["cat", "dog"], seeds=[click])
    assert torch.equal(old.segmentation, mini.decode(encoding, ["cat", "dog"], clicks=[click]).segmentation)


def test_an_image_was_called_picture(mini, image):
    encoding = mini.encode(image)
    with pytest.warns(DeprecationWarning, match=r"encode\(image=…\) now"):
        old = mini.encode(picture=image)
    with pytest.warns(DeprecationWarning, match=r"Encoding.image now"):
        assert old.picture is old.image
    result = mini.decode(encoding, ["cat", "dog"])
    with pytest.warns(DeprecationWarning, match=r"Segmentation.image now"):
        assert result.picture is result.image
    with pytest.warns(DeprecationWarning, match=r"Segmenter\(images=…\) now"):
        assert torch.equal(mini(pictures=image, labels=["cat", "dog"]).segmentation, result.segmentation)


def test_other_names_are_refused():
    with pytest.raises(AttributeError, match="no attribute 'Segmentr'"):
        _ = nerveseg.Segmentr


def test_every_error_is_a_builtin_that_callers_expect():
    from nerveseg import errors

    for name in errors.__all__:
        error = getattr(errors, name)
        assert issubclass(error, errors.NerveSegError)
        if error is not errors.NerveSegError:
            assert issubclass(error, (ValueError, LookupError, OSError, ImportError, MemoryError, RuntimeError))


def test_importing_the_package_loads_nothing_heavy():
    assert python(f"import sys, nerveseg; print([name for name in {HEAVY!r} if name in sys.modules])").strip() == "[]"


def test_parsing_words_loads_nothing_heavy():
    code = f"import sys, nerveseg; nerveseg.Vocabulary.parse(['a', 'b']); print([name for name in {HEAVY!r} if name in sys.modules])"
    assert python(code).strip() == "[]"


@pytest.mark.parametrize("arguments", [["--help"], ["segment", "--help"], ["recipes", "list"], ["--version"]])
def test_light_commands_load_nothing_heavy(arguments):
    code = f"""
import sys
from nerveseg.cli import main
sys.argv = ["nerveseg", *{arguments!r}]
try:
    main()
except SystemExit as stop:
    assert stop.code in (0, None), stop.code
print("LOADED", [name for name in {HEAVY!r} if name in sys.modules])
"""
    assert python(code).strip().endswith("LOADED []")


def test_help_is_quick():
    def once() -> float:
        """Seconds of the processor, which other processes on the machine do not lengthen much."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "nerveseg", "--help"], capture_output=True, check=True, timeout=600)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    # 0.2 s on a free machine; the best of a few, and generous, since tests share theirs.
    assert min(once() for _ in range(3)) < 1.5
