"""Slow, independent writers of configurations: number by number with ``struct``, after the formats' descriptions.

Links are complex arrays U[mu, x, y, z, t, i, j].
"""

import binascii
import struct

import numpy as np

import reference_gauge as reference


def numbers(u, letter, rows=None):
    """The links as bytes: t outermost, then z, y, x, direction, row, column, real and imaginary part."""
    n_x, n_y, n_z, n_t = u.shape[1:5]
    sites = ((x, y, z, t) for t in range(n_t) for z in range(n_z) for y in range(n_y) for x in range(n_x))
    values = []
    for site in sites:
        for mu in range(4):
            for row in u[(mu, *site)][:rows]:
                for element in row:
                    values += [element.real, element.imag]
    return struct.pack(f"{letter[0]}{len(values)}{letter[1]}", *values)


def averages(u):
    """Plaquette and link trace, normalised to one."""
    n = u.shape[-1]
    n_loops = 6 * np.prod(u.shape[1:5])
    trace = np.trace(u, axis1=-2, axis2=-1).real.mean() / n
    return 1 - reference.loop_deficit(u, (1, 1)) / n_loops, trace


def nersc(u, floating_point="IEEE64BIG", letter=">d", rows=None, **changes):
    """A file of the NERSC archive; ``letter`` is that of ``struct``, the words of the checksum are in its order."""
    n, data = u.shape[-1], numbers(u, letter, rows)
    words = sum(struct.unpack(f"{letter[0]}{len(data) // 4}I", data))
    plaquette, trace = averages(u)
    header = {
        "HDR_VERSION": "1.0",
        "DATATYPE": "4D_SU3_GAUGE" if rows else f"4D_SU{n}_GAUGE_{n}x{n}",
        **{f"DIMENSION_{k}": extent for k, extent in enumerate(u.shape[1:5], 1)},
        "LINK_TRACE": f"{trace:.10f}",
        "PLAQUETTE": f"{plaquette:.10f}",
        "CHECKSUM": f"{words % 2**32:08x}",
        "FLOATING_POINT": floating_point,
    }
    header.update(changes)
    lines = "".join(f"{name} = {value}\n" for name, value in header.items() if value is not None)
    return f"BEGIN_HEADER\n{lines}END_HEADER\n".encode() + data


def lime(records):
    """A LIME message of pairs of type and content."""
    message = b""
    for k, (kind, content) in enumerate(records):
        flags = (0x8000 if k == 0 else 0) | (0x4000 if k == len(records) - 1 else 0)
        message += struct.pack(">IHHQ", 0x456789AB, 1, flags, len(content)) + kind.encode().ljust(128, b"\0")
        message += content + bytes((8 - len(content) % 8) % 8)
    return message


def ildg(u, letter=">d", **changes):
    """An ILDG file with the SciDAC checksum and the plaquette; elements replaced by ``changes``."""
    data, n_sites = numbers(u, letter), int(np.prod(u.shape[1:5]))
    a = b = 0
    for site in range(n_sites):
        size = len(data) // n_sites
        word = binascii.crc32(data[site * size : (site + 1) * size])
        a ^= ((word << site % 29) | (word >> (32 - site % 29))) % 2**32
        b ^= ((word << site % 31) | (word >> (32 - site % 31))) % 2**32
    stored = {
        "field": f"su{u.shape[-1]}gauge",
        "precision": {"d": 64, "f": 32}[letter[1]],
        **dict(zip(("lx", "ly", "lz", "lt"), u.shape[1:5], strict=True)),
        "plaq": f"{averages(u)[0]:.10f}",
        "suma": f"{a:x}",
        "sumb": f"{b:x}",
        **changes,
    }

    def xml(root, *names):
        return f"<{root}>{''.join(f'<{name}>{stored[name]}</{name}>' for name in names)}</{root}>".encode()

    return lime(
        [
            ("ildg-format", xml("ildgFormat", "field", "precision", "lx", "ly", "lz", "lt")),
            ("scidac-record-xml", xml("usqcdInfo", "plaq")),
            ("ildg-binary-data", data),
            ("scidac-checksum", xml("scidacChecksum", "suma", "sumb")),
        ]
    )
