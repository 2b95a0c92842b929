"""Seeded mutations of files for fuzz.py: edits of bytes, with checksums repaired so that damage gets past them."""

import io
import re
import struct
import warnings
import zipfile
import zlib

INTERESTING = (0, 1, 2, 7, 8, 16, 31, 32, 64, 127, 128, 255, 256, 512, 4096, 32767, 32768, 65535, 65536, 2**24)
EXTREME = (2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40, 2**48, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
TOKENS = (
    b"null",
    b"true",
    b'""',
    b"[]",
    b"{}",
    b"-1",
    b"0",
    b"1e308",
    b"1e400",
    b"NaN",
    b"-Infinity",
    b"1" * 40,
    b'"\\u0000"',
)


def flip_bit(data, rng):
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def set_byte(data, rng):
    data[rng.randrange(len(data))] = rng.choice((0, 1, 127, 128, 254, 255, rng.randrange(256)))


def set_integer(data, rng):
    size = rng.choice((2, 4, 8))
    value = rng.choice(INTERESTING + EXTREME) % 2 ** (8 * size)
    start = rng.randrange(max(1, len(data) - size))
    data[start : start + size] = value.to_bytes(size, rng.choice(("little", "big")))


def nudge_integer(data, rng):
    start = rng.randrange(max(1, len(data) - 4))
    order = rng.choice(("little", "big"))
    value = int.from_bytes(data[start : start + 4], order) + rng.choice((-16, -2, -1, 1, 2, 16))
    data[start : start + 4] = (value % 2**32).to_bytes(4, order)


def delete_range(data, rng):
    start = rng.randrange(len(data))
    del data[start : start + rng.choice((1, 4, 64, 512))]


def insert_bytes(data, rng):
    start = rng.randrange(len(data) + 1)
    data[start:start] = rng.randbytes(rng.choice((1, 4, 16, 64)))


def duplicate_range(data, rng):
    start, count = rng.randrange(len(data)), rng.choice((1, 8, 64, 512))
    data[start:start] = data[start : start + count]


def move_range(data, rng):
    start, count, target = rng.randrange(len(data)), rng.choice((4, 8, 64, 512)), rng.randrange(len(data))
    data[target : target + count] = data[start : start + count]


def truncate(data, rng):
    del data[rng.randrange(len(data)) :]


def replace_number(data, rng):
    """Replace a number in text, or a quoted word."""
    found = list(re.finditer(rb'-?\d[\d.e+-]*|"[^"]*"|null|true|false', data))
    if found:
        match = rng.choice(found)
        data[match.start() : match.end()] = rng.choice((*TOKENS, str(rng.choice(INTERESTING + EXTREME)).encode()))


EDITS = (flip_bit, set_byte, set_integer, nudge_integer, delete_range, insert_bytes, duplicate_range, move_range)


def mutate(data, rng, is_text=False):
    """Return a copy of the bytes with one to six edits, which in one of ten cases is also cut short."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        edit = replace_number if is_text and rng.random() < 0.8 else rng.choice(EDITS)
        if data:
            edit(data, rng)
    if data and rng.random() < 0.1:
        truncate(data, rng)
    return bytes(data)


def mutate_zip(data, rng):
    """Mutate the bytes of an archive, or those of its members (stored again, with valid checksums)."""
    if rng.random() < 0.3:
        return mutate(data, rng)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(out, "w") as written, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # duplicate names
        infos = archive.infolist()
        chosen = rng.randrange(len(infos))
        for number, info in enumerate(infos):
            content, name = archive.read(info), info.filename
            if number == chosen:
                content = mutate(content, rng)
                name = mutate_name(name, rng)
            written.writestr(zipfile.ZipInfo(name), content, info.compress_type)
    return out.getvalue()


def mutate_name(name, rng):
    if rng.random() < 0.9:
        return name
    return rng.choice(("\0" + name, "../" + name, "/" + name, name + "\x1b", "", "a" * 300 + name, name + "/", name))


def mutate_png(data, rng):
    """Mutate an image; the checksums of a PNG's chunks are repaired in half of the cases."""
    mutated = mutate(data, rng)
    if mutated[:8] != b"\x89PNG\r\n\x1a\n" or rng.random() < 0.5:
        return mutated
    out, position = bytearray(mutated), 8
    while position + 12 <= len(out):
        (size,) = struct.unpack_from(">I", out, position)
        end = position + 8 + size
        if end + 4 > len(out):
            break
        struct.pack_into(">I", out, end, zlib.crc32(out[position + 4 : end]))
        position = end + 4
    return bytes(out)


def mutate_tar(data, rng):
    """Mutate an archive; the checksums of its headers are repaired in most cases."""
    out = bytearray(mutate(data, rng))
    if rng.random() < 0.2:
        return bytes(out)
    for start in range(0, len(out) - 511, 512):
        if out[start + 257 : start + 262] == b"ustar":
            total = sum(out[start : start + 148]) + sum(out[start + 156 : start + 512]) + 8 * 32
            out[start + 148 : start + 156] = b"%06o\0 " % total
    return bytes(out)


def mutate_safetensors(data, rng):
    """Mutate the whole file, or its header of JSON, whose length is then corrected."""
    if rng.random() < 0.3:
        return mutate(data, rng)
    end = 8 + int.from_bytes(data[:8], "little")
    header = mutate(data[8:end], rng, is_text=True)
    return len(header).to_bytes(8, "little") + header + data[end:]
