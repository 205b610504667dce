"""Certificates for brokers and clients of a test run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True)
class Certificates:
    """A certificate authority and the folder of what it gave."""

    authority: trustme.CA
    folder: Path

    @classmethod
    def made_in(cls, folder: Path) -> Certificates:
        """A new authority."""
        made = cls(trustme.CA(key_type=trustme.KeyType.ECDSA), folder)
        made.authority.cert_pem.write_to_path(made.ca)
        return made

    @property
    def ca(self) -> Path:
        """Who is to be trusted."""
        return self.folder / "ca.pem"

    def issue(self, name: str, *names: str) -> tuple[Path, Path]:
        """Files of a new certificate for these host names, and of its key."""
        made = self.authority.issue_cert(*names, key_type=trustme.KeyType.ECDSA)
        certificate, key = self.folder / f"{name}.pem", self.folder / f"{name}-key.pem"
        made.cert_chain_pems[0].write_to_path(certificate)
        made.private_key_pem.write_to_path(key)
        return certificate, key
