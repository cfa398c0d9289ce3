"""Name the formats that are not supported, and what to do instead, so that a sound file is never called damaged."""

from __future__ import annotations

__all__ = ["CAMERA_RAW", "HEIC", "unread"]

_CONVERT = "Save it as PNG or JPEG"
_RAW = "Develop it to TIFF or JPEG in a raw converter, such as darktable or RawTherapee"
HEIC = "HEIC"
CAMERA_RAW = ("camera raw", _RAW)
"""A sensor's own values, and what to do."""

_FRAME = "Take an image out of it, as with: ffmpeg -i FILE -frames:v 1 image.png"
_SCIENCE = "Write the bands that you want as a TIFF, or give the values as an array"

_STARTS = (
    (b"\xff\x0a", "JPEG XL", _CONVERT),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL", _CONVERT),
    (b"II\xbc\x01", "JPEG XR", _CONVERT),
    (b"8BPS", "Photoshop's PSD", "Export it as PNG"),
    (b"%PDF", "PDF", "Export a page as PNG, as with: pdftoppm -png -r 150 FILE page"),
    (b"%!PS", "PostScript", "Export it as PNG"),
    (b"\xc5\xd0\xd3\xc6", "PostScript", "Export it as PNG"),
    (b"gimp xcf", "GIMP's XCF", "Export it as PNG"),
    (b"\x76\x2f\x31\x01", "OpenEXR", _CONVERT),
    (b"#?RADIANCE", "Radiance HDR", _CONVERT),
    (b"DDS ", "DirectDraw Surface", _CONVERT),
    (b"\0\0\x01\0", "a Windows icon", _CONVERT),
    (b"icns", "a macOS icon", _CONVERT),
    (b"FUJIFILMCCD-RAW", "camera raw", _RAW),
    (b"IIU\0", "camera raw", _RAW),
    (b"IIRO", "camera raw", _RAW),
    (b"IIRS", "camera raw", _RAW),
    (b"MMOR", "camera raw", _RAW),
    (b"FOVb", "camera raw", _RAW),
    (b"\x1aE\xdf\xa3", "a video (Matroska or WebM)", _FRAME),
    (b"\0\0\x01\xba", "a video (MPEG)", _FRAME),
    (b"\0\0\x01\xb3", "a video (MPEG)", _FRAME),
    (b"FLV\x01", "a video (Flash)", _FRAME),
    (b"\x30\x26\xb2\x75", "a video (Windows Media)", _FRAME),
    (b"SIMPLE  =", "FITS", _SCIENCE),
    (b"\x89HDF\r\n", "HDF5 or netCDF", _SCIENCE),
    (b"CDF\x01", "netCDF", _SCIENCE),
    (b"CDF\x02", "netCDF", _SCIENCE),
    (b"NITF", "NITF", _SCIENCE),
    (b"\x93NUMPY", "an array of NumPy", "Read it with numpy.load and give the array"),
    (b"PK\x03\x04", "a ZIP archive", "Unpack it and give the images"),
    (b"\x1f\x8b", "a gzip archive", "Unpack it and give the images"),
    (b"\0\x05\x16\x07", "macOS's notes on a file", "Take the file of that name without ._ before it"),
    (b"7z\xbc\xaf", "a 7-Zip archive", "Unpack it and give the images"),
    (b"Rar!", "a RAR archive", "Unpack it and give the images"),
    (b"version https://git-lfs", "a pointer of Git LFS", "Fetch the file itself with: git lfs pull"),
)
_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIC"),
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"crx ",), "camera raw"),
    **dict.fromkeys((b"isom", b"iso2", b"mp41", b"mp42", b"qt  ", b"M4V ", b"3gp4", b"3gp5", b"avc1", b"dash"), "a video (MP4)"),
}


def unread(data: bytes) -> tuple[str, str] | None:
    r"""The format of a file that is not read, and what to do.

    Args:
        data: its first bytes, 256 are enough.

    >>> unread(b"8BPS\0\1")
    ("Photoshop's PSD", 'Export it as PNG')
    """
    for start, name, advice in _STARTS:
        if data.startswith(start):
            return name, advice
    if data[4:8] == b"ftyp":
        return _of_brand(data)
    if data[:4] == b"RIFF" and data[8:12] == b"AVI ":
        return "a video (AVI)", _FRAME
    if data[128:132] == b"DICM":
        return "DICOM", _SCIENCE
    return _of_text(data)


def _of_brand(data: bytes) -> tuple[str, str]:
    size = min(int.from_bytes(data[:4], "big"), len(data))
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, size - 3, 4))]
    name = next((_BRANDS[brand] for brand in brands if brand in _BRANDS), "a video (MP4)")
    if "AVIF" in {_BRANDS.get(brand) for brand in brands}:
        name = "AVIF"
    advice = {
        "HEIC": "Install its reader with: pip install 'nerveseg[heic]'; or save it as JPEG (iPhone: Settings, Camera, Formats)",
        "AVIF": "Install a Pillow that has AVIF, 11.3 or newer from PyPI; or save it as PNG",
        "camera raw": _RAW,
    }
    return name, advice.get(name, _FRAME)


def _of_text(data: bytes) -> tuple[str, str] | None:
    text = data.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"<svg") or (text.startswith(b"<?xml") and b"<svg" in text):
        return "SVG", "Export it as PNG, as with: rsvg-convert FILE -o image.png"
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page", "Download the image itself; the server sent a page in its place"
    if text.startswith(b"<?xml"):
        return "XML", "Give the image that it tells of"
    return None
