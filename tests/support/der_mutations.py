"""Damage to a structure in DER that leaves everything around it whole: what a reader must refuse for its own sake.

A structure is a tree of `[tag, content]`, where the content is bytes or a list of such nodes. Lengths follow from what
is there, unless the length itself is what is damaged.
"""

from __future__ import annotations

import random

from pki import der

KINDS = ("delete", "repeat", "exchange", "turn round", "retag", "replace", "insert", "grow", "BER")
_TAGS = (0x02, 0x03, 0x04, 0x05, 0x06, 0x0C, 0x13, 0x17, 0x18, 0x24, 0x30, 0x31, 0x80, 0xA0, 0xA1, 0xA4)


def tree(encoded):
    """The tree of one element."""
    found = der.first(encoded, 0)
    if not found.tag & 0x20:
        return [found.tag, found.content]
    return [found.tag, [tree(each.encoded) for each in der.elements(found.content)]]


def encode(node):
    """The bytes of a tree. A node with a third member has its length written in that way."""
    tag, content = node[:2]
    held = content if isinstance(content, bytes) else b"".join(map(encode, content))
    if len(node) == 2:
        return der.element(tag, held)
    if node[2] == "indefinite":
        return bytes((tag, 0x80)) + held + b"\x00\x00"
    return bytes((tag, 0x84)) + len(held).to_bytes(4, "big") + held


def nodes(root):
    """All nodes below one, with those that hold them."""
    if isinstance(root[1], list):
        for each in root[1]:
            yield root, each
            yield from nodes(each)


def damage(root, chance: random.Random):
    """Damages one place of a tree, and says how."""
    parent, node = chance.choice(list(nodes(root)))
    siblings, kind = parent[1], chance.choice(KINDS)
    at = next(position for position, each in enumerate(siblings) if each is node)
    match kind:
        case "delete":
            del siblings[at]
        case "repeat":
            siblings.insert(at, node)
        case "exchange":
            other = chance.randrange(len(siblings))
            siblings[at], siblings[other] = siblings[other], siblings[at]
        case "turn round":
            siblings.reverse()
        case "retag":
            node[0] = chance.choice(_TAGS)
        case "replace":
            node[1] = chance.randbytes(chance.choice((0, 1, 2, 20, 32)))
        case "insert":
            siblings.insert(at, [chance.choice(_TAGS), chance.randbytes(chance.choice((0, 1, 3)))])
        case "grow":
            if isinstance(node[1], bytes):
                node[1] = chance.choice((b"\x00" + node[1], node[1] + b"\x00", node[1][:-1], node[1] + b"Z"))
        case "BER":
            node[2:] = [chance.choice(("indefinite", "long"))]
    return kind
