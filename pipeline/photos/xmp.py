"""XMP: a photo's packet goes on, with what has become of the photo. No times in it: equal work gives equal bytes."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from xml.dom import minidom
from xml.parsers.expat import ExpatError

from pipeline.photos.iptc import LIST, LOCALISED, SINGLE, XMP_FIELDS
from supir_core import __version__

SPACES = {
    "x": "adobe:ns:meta/",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "dc": "http://purl.org/dc/elements/1.1/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "xmpMM": "http://ns.adobe.com/xap/1.0/mm/",
    "stEvt": "http://ns.adobe.com/xap/1.0/sType/ResourceEvent#",
    "stRef": "http://ns.adobe.com/xap/1.0/sType/ResourceRef#",
    "xmpNote": "http://ns.adobe.com/xmp/note/",
    "tiff": "http://ns.adobe.com/tiff/1.0/",
    "exif": "http://ns.adobe.com/exif/1.0/",
    "photoshop": "http://ns.adobe.com/photoshop/1.0/",
    "Iptc4xmpCore": "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "supir": "urn:supir:1.0/",
}
MADE_WITH_AI = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
"""IPTC's term for a picture that was enhanced with a generative model, not created by one."""
SOFTWARE = f"supir {__version__}"
_STALE = ("xmp:Thumbnails", "xmpNote:HasExtendedXMP")
_XMLNS = "http://www.w3.org/2000/xmlns/"


@dataclass(frozen=True)
class Provenance:
    """What a result was made of, and how."""

    source_sha256: str
    preset: str  # name and digest
    model_digest: str
    seed: int
    caption: str
    tile_captions: tuple[str, ...] = ()

    @property
    def document(self) -> str:
        """A UUID: the same for the same photo, look, model and words."""
        parts = (self.source_sha256, self.preset, self.model_digest, self.caption, *self.tile_captions)
        return str(uuid.uuid5(uuid.NAMESPACE_URL, "\n".join(parts)))


def with_provenance(
    packet: bytes | None, story: Provenance, height: int, width: int, scale: float, texts: dict[int, list[str]]
) -> bytes:
    """The packet of a result.

    Args:
        packet: the photo's.
        story: what has become of it.
        height: of the result, pixels.
        width: of the result, pixels.
        scale: of the result against the photo.
        texts: of IPTC-IIM, by dataset, to be added where the packet lacks them; lists are joined.

    Raises:
        ValueError: the photo's packet cannot be read.
    """
    page = _Page(packet)
    page.correct(height, width, scale)
    for number, words in texts.items():
        name, kind = XMP_FIELDS[number]
        if kind == LIST:
            page.put(name, *dict.fromkeys([*page.items(name), *words]), kind=kind)
        elif not page.has(name):
            page.put(name, *words, kind=kind)
    original, instance = page.drop("xmpMM:DocumentID"), page.drop("xmpMM:InstanceID")
    first = original or f"urn:sha256:{story.source_sha256}"
    page.put("xmpMM:DocumentID", f"xmp.did:{story.document}")
    page.put("xmpMM:InstanceID", f"xmp.iid:{story.document}")
    if not page.has("xmpMM:OriginalDocumentID"):
        page.put("xmpMM:OriginalDocumentID", first)
    page.drop("xmpMM:DerivedFrom")
    page.put_parts(
        "xmpMM:DerivedFrom", {"stRef:documentID": first} | ({"stRef:instanceID": instance} if instance else {})
    )
    page.add_event(
        {
            "stEvt:action": "edited",
            "stEvt:instanceID": f"xmp.iid:{story.document}",
            "stEvt:softwareAgent": SOFTWARE,
            "stEvt:changed": "/",
            "stEvt:parameters": f"preset {story.preset}; model {story.model_digest}; seed {story.seed}",
        }
    )
    kind_of_source = page.drop("Iptc4xmpExt:DigitalSourceType")
    page.put("Iptc4xmpExt:DigitalSourceType", MADE_WITH_AI)
    page.put("Iptc4xmpExt:AISystemUsed", "SUPIR")
    page.put("Iptc4xmpExt:AISystemVersionUsed", f"{SOFTWARE}, weights {story.model_digest}")
    page.put("supir:SourceSHA256", story.source_sha256)
    if kind_of_source and kind_of_source != MADE_WITH_AI:
        page.put("supir:SourceDigitalSourceType", kind_of_source)
    return page.packet()


class _Page:
    """A packet's properties. The DOM keeps what it is not asked to change, with all its prefixes."""

    def __init__(self, packet: bytes | None):
        found = re.search(rb"<(x:xmpmeta|rdf:RDF)\b.*</\1\s*>", packet or b"", re.DOTALL)
        if packet and (found is None or b"<!" in found[0]):  # no packet needs entities; they can fill the memory
            raise ValueError("not an XMP packet")
        empty = f'<x:xmpmeta xmlns:x="{SPACES["x"]}"><rdf:RDF xmlns:rdf="{SPACES["rdf"]}"/></x:xmpmeta>'
        try:
            self._page = minidom.parseString(found[0] if found else empty.encode())
        except (ExpatError, UnicodeError) as error:
            raise ValueError(f"not an XMP packet: {error}") from error
        roots = self._page.getElementsByTagNameNS(SPACES["rdf"], "RDF")
        if not roots:
            raise ValueError("not an XMP packet")
        there = [node for node in roots[0].childNodes if node.nodeType == node.ELEMENT_NODE]
        self._own = self._page.createElement("rdf:Description")
        about = there[0].getAttributeNS(SPACES["rdf"], "about") if there else ""
        self._own.setAttributeNS(SPACES["rdf"], "rdf:about", about)
        self._own.setAttributeNS(_XMLNS, "xmlns:rdf", SPACES["rdf"])
        roots[0].appendChild(self._own)
        self._all = [*there, self._own]

    def has(self, name: str) -> bool:
        """Whether there is such a property."""
        return any(d.hasAttributeNS(*_split(name)) or self._children(d, name) for d in self._all)

    def items(self, name: str) -> list[str]:
        """The texts of a property that is a list."""
        nodes = [item for d in self._all for child in self._children(d, name) for item in
                 child.getElementsByTagNameNS(SPACES["rdf"], "li")]  # fmt: skip
        return ["".join(n.data for n in item.childNodes if n.nodeType == n.TEXT_NODE) for item in nodes]

    def drop(self, name: str) -> str:
        """Remove a property; its text, if it had one."""
        text = ""
        for description in self._all:
            if description.hasAttributeNS(*_split(name)):
                text = text or description.getAttributeNS(*_split(name))
                description.removeAttributeNS(*_split(name))
            for child in self._children(description, name):
                text = text or "".join(n.data for n in child.childNodes if n.nodeType == n.TEXT_NODE).strip()
                description.removeChild(child)
        return text

    def put(self, name: str, *values: str, kind: str = SINGLE) -> None:
        """Set a property."""
        self.drop(name)
        element = self._element(self._own, name)
        if kind == SINGLE:
            element.appendChild(self._page.createTextNode(values[0]))
            return
        items = self._element(element, f"rdf:{kind}")
        for value in values:
            item = self._element(items, "rdf:li")
            if kind == LOCALISED:
                item.setAttribute("xml:lang", "x-default")
            item.appendChild(self._page.createTextNode(value))

    def put_parts(self, name: str, parts: dict[str, str]) -> None:
        """Add a property that has parts."""
        self._parts(self._element(self._own, name), parts)

    def add_event(self, parts: dict[str, str]) -> None:
        """Add an event to the history, which is begun if there is none."""
        histories = [child for d in self._all for child in self._children(d, "xmpMM:History")]
        history = histories[0] if histories else self._element(self._own, "xmpMM:History")
        sequences = self._children(history, "rdf:Seq")
        self._parts(self._element(sequences[0] if sequences else self._element(history, "rdf:Seq"), "rdf:li"), parts)

    def correct(self, height: int, width: int, scale: float) -> None:
        """What is said of the pixels becomes true of the result."""
        sides = {"ImageWidth": width, "ImageLength": height, "Orientation": 1}
        new = {f"tiff:{name}": str(value) for name, value in sides.items()}
        new |= {"exif:PixelXDimension": str(width), "exif:PixelYDimension": str(height), "exif:ColorSpace": "1"}
        new |= {"photoshop:ICCProfile": "sRGB IEC61966-2.1"}
        for name in [*new, "tiff:XResolution", "tiff:YResolution"]:
            if self.has(name):
                old = self.drop(name)
                self.put(name, new.get(name) or _scaled(old, scale))
        for name in _STALE:
            self.drop(name)

    def packet(self) -> bytes:
        """The packet's bytes."""
        root = self._page.documentElement
        body = root.toxml().encode("utf-8") if root is not None else b""
        return b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>\n' + body + b'\n<?xpacket end="w"?>'

    def _parts(self, element: minidom.Element, parts: dict[str, str]) -> None:
        element.setAttributeNS(SPACES["rdf"], "rdf:parseType", "Resource")
        element.setAttributeNS(_XMLNS, "xmlns:rdf", SPACES["rdf"])
        for name, value in parts.items():
            self._element(element, name).appendChild(self._page.createTextNode(value))

    def _element(self, parent: minidom.Element, name: str) -> minidom.Element:
        element = self._page.createElementNS(_split(name)[0], name)
        prefix = name.partition(":")[0]
        element.setAttributeNS(_XMLNS, f"xmlns:{prefix}", SPACES[prefix])  # whatever the packet calls it
        parent.appendChild(element)
        return element

    def _children(self, parent: minidom.Element, name: str) -> list[minidom.Element]:
        wanted = _split(name)
        return [
            n for n in parent.childNodes if n.nodeType == n.ELEMENT_NODE and (n.namespaceURI, n.localName) == wanted
        ]


def _split(name: str) -> tuple[str, str]:
    prefix, _, local = name.partition(":")
    return SPACES[prefix], local


def _scaled(fraction: str, scale: float) -> str:
    above, _, below = fraction.partition("/")
    try:
        return f"{round(float(above) * scale)}/{below or 1}"
    except ValueError:
        return fraction
