"""Pictures of anybody's: what is decoded, and the small ones that come with embeddings of your own."""

import io
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from xsae.data.npz import headers, opened, read

# What is decoded, whatever a file's name says: others reach programs outside, as EPS does Ghostscript. Of a GIF, the
# first frame.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
_GREY = (233, 233, 233)  # round a picture that is not square, and in the place of one that cannot be read


@contextmanager
def opened_image(image: bytes | str) -> Iterator[Image.Image]:
    """The image of a file's bytes or path, at 8 bits a pixel and channel; whatever is wrong with it within the block
    becomes ValueError, in some words and without the path."""
    if isinstance(image, str) and not Path(image).is_file():  # to read a pipe would never end
        raise ValueError("not a file" if Path(image).exists() else "no such file")
    try:
        with Image.open(image if isinstance(image, str) else io.BytesIO(image), formats=FORMATS) as found:
            yield _eight_bits(found)
    except UnidentifiedImageError:
        raise ValueError("empty file" if image == b"" else "not an image") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # what Pillow raises
        raise ValueError(f"damaged image: {str(error)[:80]}") from None


def _eight_bits(image: Image.Image) -> Image.Image:
    """An image of 16 bits a pixel at 8, which Pillow would cut to white. Raises ValueError for more bits."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"{image.mode} pixels of 32 bits, whose range is not known")
    return image


def check(about: Mapping[str, tuple[tuple[int, ...], np.dtype]], rows: int, reference: str, file: Path) -> None:
    """Whether `thumbnail` and `image_path` of an `.npz`, if there, are what they must be, by their headers.

    rows: of the reference modality, which the pictures are of. Raises ValueError, one line, where they are not.
    """
    shape, dtype = about.get("thumbnail", ((rows, 1, 1, 3), np.dtype(np.uint8)))
    if dtype != np.uint8 or shape[:1] + shape[3:] != (rows, 3) or 0 in shape:
        raise ValueError(
            f"{file}: thumbnail: {dtype} of shape {shape} found; uint8 ({rows}, height, width, 3) is needed, a picture "
            f"for each {reference}"
        )
    shape, dtype = about.get("image_path", ((rows,), np.dtype(str)))
    if dtype.kind not in "US" or shape != (rows,):
        raise ValueError(
            f"{file}: image_path: {dtype} of shape {shape} found; text ({rows},) is needed, a path for each {reference}"
        )


def pictures_of(file: Path, places: np.ndarray, rows: int, reference: str, side: int) -> np.ndarray | None:
    """Pictures of some rows of the reference modality of an `.npz`, uint8 (n, height, width, 3), if it has any.

    `thumbnail` as they are; else the files that `image_path` names, at most `side` pixels wide and high, the rest grey;
    relative paths begin at the folder of the `.npz`. A file that cannot be read is a grey picture, and a warning says
    how many there are. Raises as `check` does, and ValueError where none can be read.

    Args:
        places: the rows (n,). rows: how many there are in all.
    """
    with opened(file) as data:
        about = headers(data, file)
        check(about, rows, reference, file)
        if "thumbnail" in about:
            return read(data, file, "thumbnail")[places]
        if "image_path" not in about:
            return None
        paths = read(data, file, "image_path")[places].tolist()
    return _from_files(file, paths, side)


def _from_files(file: Path, paths: list[str | bytes], side: int) -> np.ndarray:
    pictures, unread = np.full((len(paths), side, side, 3), _GREY, np.uint8), []
    for picture, path in zip(pictures, paths, strict=True):
        try:
            name = path.decode() if isinstance(path, bytes) else path
            with opened_image(str(Path(file).parent / name)) as image:
                picture[:] = ImageOps.pad(image.convert("RGB"), (side, side), color=_GREY)
        except ValueError as error:  # a name that is no text, or no name of a file, is one too
            unread.append(f"{path!r:.100} ({error})")
    if unread:
        said = f"{file}: image_path: {len(unread)} of {len(paths)} pictures cannot be read, such as {unread[0]}"
        if len(unread) == len(paths):
            raise ValueError(said)
        warnings.warn(said, stacklevel=2)
    return pictures
