"""The one place where components meet: the vendor side as an object, from `--dir` or `--config`."""

from __future__ import annotations

import asyncio
import configparser
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import make_url

from console.migrate import migrate
from console.sections import refuse_unknown_sections
from kernel.clock import Clock, SystemClock
from kernel.database import Database
from kernel.deployment import Deployment
from kernel.errors import InvalidInput, NotFound
from kernel.identity.authority import CERTIFICATE_FILE
from kernel.ids import OrganizationId
from kernel.objects.s3_settings import S3Settings
from kernel.settings import read_text
from kernel.steps import StepFunction
from kernel.window import Window, month
from metering.usage.model import NOT_BILLED, GapRule

if TYPE_CHECKING:
    from billing.capacity import LicenceCapacity
    from billing.contract import Contract
    from billing.proof.evidence import Evidence, Sourced
    from kernel.log import Log
    from kernel.objects import ObjectStore
    from metering.usage.reconciliation import DeclaredCluster


class NoVendorSide(NotFound):
    """The folder holds none; a command that only looks does not make one."""


class Vendor(Deployment):
    """A deployment whose database has its tables, with what components need of each other."""

    must_exist = False  # True: whoever asks for a port where nothing was ever made is told so

    @property
    def capacity(self) -> LicenceCapacity:
        """Billing's answer to the provisioner's question: does the licence cover it?"""
        from billing.capacity import LicenceCapacity

        return LicenceCapacity(self.clock)

    def capacity_of(self, organization: OrganizationId) -> StepFunction:
        """Billing's answer to the usage report's: how much was licensed, and when?"""
        from billing.book import ContractBook

        return ContractBook(self.database(), self.clock, self.audit()).capacity(organization)

    def language_of(self, organization: OrganizationId) -> str:
        """Billing's answer to the usage report's: the language of the customer's last contract."""
        from billing.book import ContractBook

        agreed = ContractBook(self.database(), self.clock, self.audit()).contracts(organization)
        latest = max((one.contract for one in agreed), key=lambda one: one.term.start, default=None)
        return latest.language if latest else "en"

    def gap_rule_of(self, organization: OrganizationId, window: Window) -> GapRule:
        """Billing's answer to the usage report's: what does missing time count as, by the contract of that time?"""
        found = self._reported_contract(organization, lambda contract: window)
        return found.gap_rule if found else NOT_BILLED

    def zone_of(self, organization: OrganizationId, name: str) -> str:
        """Billing's answer to the usage report's: in which time zone does a month begin, by the contract of it?"""
        found = self._reported_contract(organization, lambda contract: month(name, contract.time_zone))
        return found.time_zone if found else "Etc/UTC"

    def _reported_contract(
        self, organization: OrganizationId, window_of: Callable[[Contract], Window]
    ) -> Contract | None:
        """The contract by which usage of a window is reported: the last to begin, of those with vCPU if any has."""
        from billing.book import ContractBook

        agreed = ContractBook(self.database(), self.clock, self.audit()).contracts(organization)
        covering = [one.contract for one in agreed if one.contract.window.intersection(window_of(one.contract))]
        billing = [one for one in covering if one.bills_capacity] or covering
        return max(billing, key=lambda one: one.term.start, default=None)

    def evidence_of(
        self, organization: OrganizationId, parts: Mapping[str, Sequence[Sourced]]
    ) -> tuple[Mapping[str, Evidence], Mapping[str, str]]:
        """The lake's answer to billing's: which pushes were these rows made from, or why it does not know."""
        from console.evidence import load_evidence_of

        return load_evidence_of(self, organization, parts)

    def declared(self, organization: OrganizationId) -> Sequence[DeclaredCluster]:
        """The provisioner's answer to reconciliation's: what was each cluster declared to run, and when?"""
        from console.declared import declared_clusters
        from provisioner.api import list_transitions

        return declared_clusters(self.database().read(lambda one: list_transitions(one, organization)))

    def database(self) -> Database:
        """The database, with the newest schema."""
        self._refuse_absent()
        database = super().database()
        if not self._is_migrated:
            migrate(database)
            self._is_migrated = True
        return database

    async def log(self) -> Log:
        """The log, ready; the same object each time. Raises LogUnavailable, NoVendorSide."""
        self._refuse_absent()
        return await super().log()

    def objects(self) -> ObjectStore:
        """The object store; the same object each time. Raises NoVendorSide."""
        self._refuse_absent()
        return super().objects()

    @property
    def is_made(self) -> bool:
        """Whether a database or an authority stands there. One on a server says itself when it is missing."""
        url = make_url(self.database_url)
        if url.get_backend_name() != "sqlite" or Path(str(url.database)).exists():
            return True
        return (self.authority_folder / CERTIFICATE_FILE).exists()

    def _refuse_absent(self) -> None:
        if self.must_exist and not self.is_made:
            option = f"-c {self.source}" if self.source else f"--dir {self.folder}"
            raise NoVendorSide(
                f"no vendor side in {self.folder}: `byoc {option} up` makes one, or name another folder"
            )

    @property
    def lake_properties(self) -> dict[str, str]:
        """What pyiceberg is told of S3: the same bucket, keys, owner and encryption as the object store's."""
        if not self.warehouse.startswith("s3://"):
            return {}
        from metering.lake.settings import LakeSettings

        cache = self.section("lake", LakeSettings).cache_properties()
        return {**s3_properties(self.settings.objects.s3), **cache}

    def close_sync(self) -> None:
        """`close`, for a command that has no event loop."""
        asyncio.run(self.close())

    _is_migrated = False


def s3_properties(settings: S3Settings) -> dict[str, str]:
    """pyiceberg's names for the settings of the object store. Raises InvalidInput when no access keys are found."""
    import boto3

    session = boto3.Session(region_name=settings.region)
    if settings.credentials_file is not None:
        identifier, secret = read_access_keys(settings.credentials_file)
        session = boto3.Session(
            aws_access_key_id=identifier, aws_secret_access_key=secret, region_name=settings.region
        )
    credentials = session.get_credentials()
    if credentials is None:
        raise InvalidInput.single(
            "deployment.objects.s3", "access keys", "none", "boto3's chain or credentials_file"
        )
    frozen = credentials.get_frozen_credentials()
    properties = {
        "s3.endpoint": settings.endpoint_url,
        "s3.region": session.region_name,
        "s3.access-key-id": frozen.access_key,
        "s3.secret-access-key": frozen.secret_key,
        "s3.session-token": frozen.token,
        "s3.expected-bucket-owner": settings.expected_bucket_owner,
        "s3.sse": None if settings.encryption == "none" else settings.encryption,
        "s3.sse-kms-key-id": settings.kms_key_id,
    }
    return {name: value for name, value in properties.items() if value}


def read_access_keys(path: Path) -> tuple[str, str]:
    """Access key and secret key of the profile `default`. Raises InvalidInput without repeating them."""
    keys = configparser.ConfigParser(interpolation=None)
    try:
        keys.read_string(read_text(path))
        return keys.get("default", "aws_access_key_id"), keys.get("default", "aws_secret_access_key")
    except configparser.Error:
        raise InvalidInput.single(
            str(path), "[default]", "other text (hidden)", "aws_access_key_id and aws_secret_access_key"
        ) from None


def open_vendor(folder: Path | None, config: Path | None, clock: Clock | None = None) -> Vendor:
    """From the options of the command line. Raises InvalidInput."""
    if folder is not None and config is not None:
        raise InvalidInput.single("options", "--dir, --config", "both", "one of them")
    chosen = clock or SystemClock()
    opened = Vendor.from_file(config, chosen) if config is not None else Vendor.embedded(folder, chosen)
    assert isinstance(opened, Vendor)
    refuse_unknown_sections(opened)
    return opened
