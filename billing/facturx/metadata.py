"""The XMP metadata by which a reader knows a PDF/A-3 as Factur-X: version, profile, and the name of the XML in it.

The compiler writes a PDF/A-3b with the XML attached, and metadata to which no property can be added; so they are
added here. (Factur-X 1.0, section "PDF/A-3 metadata": an extension schema describes the four properties.)
"""

from __future__ import annotations

import io

from billing.facturx.cii import FILE_NAME

_URI = "urn:factur-x:pdfa:CrossIndustryDocument:invoice:1p0#"
_PROPERTIES = {
    "DocumentFileName": (FILE_NAME, "The name of the embedded XML document"),
    "DocumentType": ("INVOICE", "The type of the hybrid document"),
    "Version": ("1.0", "The version of the standard of the embedded XML document"),
    "ConformanceLevel": ("EN 16931", "The profile of the embedded XML document"),
}
_SCHEMAS_END = "</rdf:Bag></pdfaExtension:schemas>"
_RDF_END = "</rdf:RDF>"


def with_facturx_metadata(pdf: bytes) -> bytes:
    """The same PDF/A-3 with the metadata of Factur-X; the same input gives the same bytes."""
    from pypdf import PdfWriter
    from pypdf.generic import DecodedStreamObject

    writer = PdfWriter(clone_from=io.BytesIO(pdf))
    writer.pdf_header = pdf[:8].decode("ascii")
    stream = writer.root_object["/Metadata"].get_object()
    assert isinstance(stream, DecodedStreamObject)
    stream.set_data(_extended(stream.get_data().decode()).encode())
    written = io.BytesIO()
    writer.write(written)
    return written.getvalue()


def _extended(xmp: str) -> str:
    if xmp.count(_SCHEMAS_END) != 1 or xmp.count(_RDF_END) != 1:
        raise ValueError("the compiler's metadata have another form: they are not those of a PDF/A-3b")
    return xmp.replace(_SCHEMAS_END, _schema() + _SCHEMAS_END).replace(_RDF_END, _values() + _RDF_END)


def _schema() -> str:
    properties = "".join(
        '<rdf:li rdf:parseType="Resource">'
        f"<pdfaProperty:name>{name}</pdfaProperty:name><pdfaProperty:valueType>Text</pdfaProperty:valueType>"
        "<pdfaProperty:category>external</pdfaProperty:category>"
        f"<pdfaProperty:description>{description}</pdfaProperty:description></rdf:li>"
        for name, (_, description) in _PROPERTIES.items()
    )
    return (
        '<rdf:li rdf:parseType="Resource"><pdfaSchema:schema>Factur-X PDFA Extension Schema</pdfaSchema:schema>'
        f"<pdfaSchema:namespaceURI>{_URI}</pdfaSchema:namespaceURI><pdfaSchema:prefix>fx</pdfaSchema:prefix>"
        f"<pdfaSchema:property><rdf:Seq>{properties}</rdf:Seq></pdfaSchema:property></rdf:li>"
    )


def _values() -> str:
    values = "".join(f"<fx:{name}>{value}</fx:{name}>" for name, (value, _) in _PROPERTIES.items())
    return f'<rdf:Description rdf:about="" xmlns:fx="{_URI}">{values}</rdf:Description>'
