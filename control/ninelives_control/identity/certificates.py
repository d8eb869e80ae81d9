"""What a client certificate calls its bearer."""

from __future__ import annotations

from functools import lru_cache

from cryptography import x509
from cryptography.x509.oid import NameOID

COMMON_NAME = "CN="
SPIFFE = "spiffe://"


@lru_cache(maxsize=1000)
def names_of(certificate: bytes) -> tuple[str, ...]:
    """Return the names of a certificate, in DER: the SPIFFE id, then `CN=` and the common name.

    One that has several URIs has no SPIFFE id (X.509-SVID, section 2).
    """
    try:
        read = x509.load_der_x509_certificate(certificate)
        commons = read.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        uris = _uris(read)
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return ()
    names = uris if len(uris) == 1 and uris[0].startswith(SPIFFE) else []
    return (*names, *(f"{COMMON_NAME}{each.value!s}" for each in commons if len(commons) == 1))


def _uris(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return found.value.get_values_for_type(x509.UniformResourceIdentifier)
