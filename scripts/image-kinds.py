"""Writes one small image of every kind that Octet reads, and the pixels that Pillow gives for it.

    python scripts/image-kinds.py OUTPUT.json [all]

A list of {name, width, height, file, rgb, grey, small, large}, bytes in base64: the file, convert("RGB"), convert("L"), and convert("RGB") resized
to 8 x 5 and to 50 x 40 with Image.BILINEAR. Without "all" it is the tiny set that packages/quant-core/src/data/image/kinds.test.ts brings along.
Needs Pillow 13 and numpy.
"""

import base64
import io
import json
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

everything = "all" in sys.argv[2:]
width, height = (37, 29) if everything else (9, 7)
# Of the rest there are tests that make their files themselves, or nothing in it depends on us.
tiny = {
    "jpeg cmyk of adobe.jpg", "png 16 bits.png", "png 16 bits rgb.png", "png palette with a clear colour.png", "tiff cmyk.tif", "tiff turned.tif",
    "tiff 1 bit.tif", "gif clear colour.gif", "gif interlaced.gif", "bmp 32 bits.bmp", "bmp 1 bit.bmp", "bmp 565.bmp", "bmp rle.bmp",
    "netpbm.ppm", "netpbm 1 bit.pbm", "netpbm 100 levels.pgm", "netpbm text grey.pgm", "webp.webp",
}  # fmt: skip
rng = np.random.default_rng(5)
ground = np.asarray(Image.fromarray(rng.integers(0, 256, (4, 5, 4), dtype=np.uint8), "RGBA").resize((width, height), Image.BICUBIC))
noise = rng.integers(-20, 21, (height, width, 1))
pixels = np.clip(ground.astype(np.int32) + noise, 0, 255).astype(np.uint8)
rgba = Image.fromarray(pixels, "RGBA")
rgb = Image.fromarray(np.ascontiguousarray(pixels[..., :3]), "RGB")
grey = rgb.convert("L")
deep = (pixels.astype(np.uint16) * 257) ^ rng.integers(0, 256, pixels.shape, dtype=np.uint16)
cmyk = Image.fromarray(pixels, "CMYK")
kinds: dict[str, bytes] = {}


def saved(image: Image.Image, format: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(rows: list[bytes], bits: int, colour: int, extra: bytes = b"") -> bytes:
    """A PNG of packed rows."""
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    packed = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def packed_rows(values: np.ndarray, bits: int) -> list[bytes]:
    """Rows of values of fewer than 8 bits."""
    planes = ((values[..., None] >> np.arange(bits - 1, -1, -1)) & 1).astype(np.uint8).reshape(height, -1)
    return [np.packbits(row).tobytes() for row in planes]


def big_rows(values: np.ndarray) -> list[bytes]:
    return [row.astype(">u2").tobytes() for row in values]


def without_adobe(data: bytes) -> bytes:
    """A JPEG without its APP14 segment."""
    at = data.index(b"\xff\xee")
    return data[:at] + data[at + 2 + struct.unpack(">H", data[at + 2 : at + 4])[0] :]


def tiff(values: np.ndarray, photometric: int, bits: int, order: str = "<", extra: tuple = (), floats: bool = False) -> bytes:
    """An uncompressed TIFF of one strip; `values` are [height, width, samples]."""
    samples = values.shape[2]
    data = values.astype(values.dtype.newbyteorder(order)).tobytes()
    tags = [
        (256, 4, (width,)), (257, 4, (height,)), (258, 3, (bits,) * samples), (259, 3, (1,)), (262, 3, (photometric,)), (273, 4, (8,)),
        (277, 3, (samples,)), (278, 4, (height,)), (279, 4, (len(data),)),
    ]  # fmt: skip
    if floats:
        tags.append((339, 3, (3,) * samples))
    tags = sorted(tags + list(extra))
    body, late = b"", b""
    after = 8 + len(data) + len(data) % 2 + 2 + 12 * len(tags) + 4
    for tag, kind, numbers in tags:
        raw = struct.pack(order + {3: "H", 4: "I"}[kind] * len(numbers), *numbers)
        place = raw.ljust(4, b"\0") if len(raw) <= 4 else struct.pack(order + "I", after + len(late))
        late += b"" if len(raw) <= 4 else raw
        body += struct.pack(order + "HHI", tag, kind, len(numbers)) + place
    start = 8 + len(data) + len(data) % 2
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", start)
    return head + data.ljust(start - 8, b"\0") + struct.pack(order + "H", len(tags)) + body + struct.pack(order + "I", 0) + late


# JPEG
kinds["jpeg 4:2:0.jpg"] = saved(rgb, "JPEG", quality=85)
kinds["jpeg 4:2:2.jpeg"] = saved(rgb, "JPEG", quality=85, subsampling=1)
kinds["jpeg 4:4:4.jpe"] = saved(rgb, "JPEG", quality=95, subsampling=0)
kinds["jpeg progressive.jfif"] = saved(rgb, "JPEG", quality=80, progressive=True)
kinds["jpeg without extension"] = saved(rgb, "JPEG", quality=70)
kinds["jpeg grey.jpg"] = saved(grey, "JPEG", quality=85)
kinds["jpeg stored as rgb.jpg"] = saved(rgb, "JPEG", quality=85, keep_rgb=True)
kinds["jpeg restart markers.jpg"] = saved(rgb, "JPEG", quality=85, restart_marker_blocks=2)
kinds["jpeg cmyk of adobe.jpg"] = saved(cmyk, "JPEG", quality=90)
kinds["jpeg cmyk.jpg"] = without_adobe(saved(cmyk, "JPEG", quality=90))
exif = Image.Exif()
exif[0x0112] = 6
kinds["jpeg turned by exif.jpg"] = saved(rgb, "JPEG", quality=85, exif=exif)
profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
kinds["jpeg with a profile.jpg"] = saved(rgb, "JPEG", quality=85, icc_profile=profile)
# PNG
kinds["png rgb.png"] = saved(rgb, "PNG")
kinds["png without extension"] = saved(rgb, "PNG", optimize=True)
kinds["png rgba.png"] = saved(rgba, "PNG")
kinds["png grey.png"] = saved(grey, "PNG")
kinds["png grey and alpha.png"] = saved(rgba.convert("LA"), "PNG")
kinds["png 1 bit.png"] = saved(rgb.convert("1"), "PNG")
kinds["png 2 bits.png"] = png(packed_rows(np.asarray(grey) >> 6, 2), 2, 0)
kinds["png 4 bits.png"] = png(packed_rows(np.asarray(grey) >> 4, 4), 4, 0)
kinds["png 16 bits.png"] = png(big_rows(deep[..., 0]), 16, 0)
kinds["png 16 bits and alpha.png"] = png(big_rows(deep[..., :2].reshape(height, -1)), 16, 4)
kinds["png 16 bits rgb.png"] = png(big_rows(deep[..., :3].reshape(height, -1)), 16, 2)
kinds["png 16 bits rgba.png"] = png(big_rows(deep.reshape(height, -1)), 16, 6)
kinds["png palette.png"] = saved(rgb.convert("P", palette=Image.ADAPTIVE, colors=200), "PNG")
kinds["png palette of 4 bits.png"] = saved(rgb.convert("P", palette=Image.ADAPTIVE, colors=13), "PNG", bits=4)
kinds["png palette with a clear colour.png"] = saved(rgb.convert("P", palette=Image.ADAPTIVE, colors=12), "PNG", transparency=7)
kinds["png clear grey.png"] = saved(grey, "PNG", transparency=90)
kinds["png clear colour.png"] = saved(rgb, "PNG", transparency=(10, 20, 30))
kinds["png gamma.png"] = png([row.tobytes() for row in pixels[..., :3]], 8, 2, chunk(b"gAMA", struct.pack(">I", 100000)))
kinds["png animated.png"] = saved(rgb, "PNG", save_all=True, append_images=[rgba.convert("RGB").rotate(180)])
# TIFF
kinds["tiff rgb.tif"] = saved(rgb, "TIFF")
kinds["tiff lzw.tiff"] = saved(rgb, "TIFF", compression="tiff_lzw")
kinds["tiff deflate.tif"] = saved(rgb, "TIFF", compression="tiff_adobe_deflate")
kinds["tiff packbits.tif"] = saved(rgb, "TIFF", compression="packbits")
kinds["tiff jpeg.tif"] = saved(rgb, "TIFF", compression="jpeg", quality=90)
kinds["tiff without extension"] = saved(rgb, "TIFF")
kinds["tiff big endian.tif"] = tiff(np.asarray(rgb), 2, 8, ">")
kinds["tiff rgba.tif"] = saved(rgba, "TIFF")
kinds["tiff grey.tif"] = saved(grey, "TIFF")
kinds["tiff grey and alpha.tif"] = saved(rgba.convert("LA"), "TIFF")
kinds["tiff white is zero.tif"] = tiff(np.asarray(grey)[..., None], 0, 8)
kinds["tiff 1 bit.tif"] = saved(rgb.convert("1"), "TIFF")
kinds["tiff fax.tif"] = saved(rgb.convert("1"), "TIFF", compression="group4")
kinds["tiff 16 bits.tif"] = tiff(deep[..., :1], 1, 16)
kinds["tiff 16 bits big endian.tif"] = tiff(deep[..., :1], 1, 16, ">")
kinds["tiff 16 bits rgb.tif"] = tiff(deep[..., :3], 2, 16)
kinds["tiff 32 bits.tif"] = saved(grey.convert("I"), "TIFF")
kinds["tiff floats.tif"] = saved(Image.fromarray(np.asarray(grey).astype(np.float32) * 1.3 - 20.3), "TIFF")
kinds["tiff palette.tif"] = saved(rgb.convert("P", palette=Image.ADAPTIVE, colors=200), "TIFF")
kinds["tiff cmyk.tif"] = saved(cmyk, "TIFF")
kinds["tiff cmyk lzw.tif"] = saved(cmyk, "TIFF", compression="tiff_lzw")
kinds["tiff two pages.tif"] = saved(rgb, "TIFF", save_all=True, append_images=[grey])
kinds["tiff turned.tif"] = saved(rgb, "TIFF", tiffinfo={274: 6})
# WebP
kinds["webp.webp"] = saved(rgb, "WEBP", quality=80)
kinds["webp lossless.webp"] = saved(rgb, "WEBP", lossless=True)
kinds["webp alpha.webp"] = saved(rgba, "WEBP", quality=80)
kinds["webp lossless alpha.webp"] = saved(rgba, "WEBP", lossless=True, exact=True)
kinds["webp animated.webp"] = saved(rgb, "WEBP", save_all=True, append_images=[rgb.rotate(180)], duration=100)
# GIF
few = rgb.convert("P", palette=Image.ADAPTIVE, colors=100 if everything else 13)
kinds["gif.gif"] = saved(few, "GIF")
kinds["gif grey.gif"] = saved(grey, "GIF")
kinds["gif clear colour.gif"] = saved(few, "GIF", transparency=3)
kinds["gif animated.gif"] = saved(few, "GIF", save_all=True, append_images=[few.rotate(180)], duration=100)
kinds["gif interlaced.gif"] = saved(few, "GIF", interlace=1)
# BMP
kinds["bmp.bmp"] = saved(rgb, "BMP")
kinds["bmp 32 bits.bmp"] = saved(rgba, "BMP")
kinds["bmp grey.bmp"] = saved(grey, "BMP")
kinds["bmp palette.bmp"] = saved(few, "BMP")
kinds["bmp 1 bit.bmp"] = saved(rgb.convert("1"), "BMP")
stride = width + -width % 4
table = b"".join(bytes([i, 255 - i, i // 2, 0]) for i in range(256))


def bmp(bits: int, data: bytes, compression: int = 0, colours: int = 0, high: int = height, masks: bytes = b"") -> bytes:
    start = 14 + 40 + len(masks) + 4 * colours
    head = struct.pack("<2sIHHI", b"BM", start + len(data), 0, 0, start)
    return head + struct.pack("<IiiHHIIiiII", 40, width, high, 1, bits, compression, len(data), 0, 0, colours, 0) + masks + table[: 4 * colours] + data


index = np.asarray(grey) // 16
kinds["bmp 4 bits.bmp"] = bmp(4, b"".join(row.ljust((width * 4 + 31) // 32 * 4, b"\0") for row in packed_rows(index, 4)), colours=16)
kinds["bmp top down.bmp"] = bmp(24, b"".join(row.tobytes() + b"\0" * (-3 * width % 4) for row in pixels[..., :3]), high=-height)
runs = b"".join(b"".join(bytes([1, value]) for value in row) + b"\0\0" for row in np.asarray(grey)) + b"\0\1"
kinds["bmp rle.bmp"] = bmp(8, runs, compression=1, colours=256)
five = (pixels[..., 0].astype(np.uint16) >> 3 << 10) | (pixels[..., 1].astype(np.uint16) >> 3 << 5) | (pixels[..., 2] >> 3)
kinds["bmp 16 bits.bmp"] = bmp(16, b"".join(row.astype("<u2").tobytes().ljust((2 * width + 3) // 4 * 4, b"\0") for row in five))
six = (pixels[..., 0].astype(np.uint16) >> 3 << 11) | (pixels[..., 1].astype(np.uint16) >> 2 << 5) | (pixels[..., 2] >> 3)
kinds["bmp 565.bmp"] = bmp(16, b"".join(row.astype("<u2").tobytes().ljust((2 * width + 3) // 4 * 4, b"\0") for row in six), 3, masks=struct.pack("<III", 0xF800, 0x7E0, 0x1F))
# Netpbm
kinds["netpbm.ppm"] = saved(rgb, "PPM")
kinds["netpbm grey.pgm"] = saved(grey, "PPM")
kinds["netpbm 1 bit.pbm"] = saved(rgb.convert("1"), "PPM")
kinds["netpbm text.ppm"] = f"P3\n# a comment\n{width} {height}\n255\n".encode() + " ".join(map(str, np.asarray(rgb).reshape(-1))).encode()
kinds["netpbm text grey.pgm"] = f"P2 {width} {height} 255\n".encode() + " ".join(map(str, np.asarray(grey).reshape(-1))).encode()
kinds["netpbm 100 levels.pgm"] = f"P5 {width} {height} 100\n".encode() + (np.asarray(grey) % 101).tobytes()
kinds["netpbm 16 bits rgb.ppm"] = f"P6 {width} {height} 65535\n".encode() + deep[..., :3].astype(">u2").tobytes()
# Read by Pillow, and refused by name
refused = {
    "jpeg 2000.jp2": saved(rgb, "JPEG2000"),
    "avif.avif": saved(rgb, "AVIF"),
    "icon.ico": saved(rgba.resize((16, 16)), "ICO", sizes=[(16, 16)]),
    "photoshop.psd": b"8BPS" + b"\0" * 60,
}

listing = []
for name, data in kinds.items():
    if not everything and name not in tiny:
        continue
    image = Image.open(io.BytesIO(data))
    colours = image.convert("RGB")
    contents = {
        "file": data,
        "rgb": colours.tobytes(),
        "grey": image.convert("L").tobytes(),
        "small": colours.resize((8, 5), Image.BILINEAR).tobytes(),
        "large": colours.resize((50, 40), Image.BILINEAR).tobytes() if everything else b"",
    }
    listing.append(
        {"name": name, "width": colours.width, "height": colours.height}
        | {key: base64.b64encode(value).decode() for key, value in contents.items()}
    )
for name, data in refused.items():
    if everything:
        listing.append({"name": name, "file": base64.b64encode(data).decode(), "refused": True})
Path(sys.argv[1]).write_text("[\n" + ",\n".join(map(json.dumps, listing)) + "\n]\n")
print(len(listing), "kinds")
