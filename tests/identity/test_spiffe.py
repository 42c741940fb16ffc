"""Names in certificates: exactly one form, or none."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernel.errors import InvalidInput
from kernel.identity import SpiffeName, parse_name
from kernel.identity.spiffe import parse_trust_domain
from kernel.ids import CollectorId, OrganizationId, ProjectId, Tenant

ids = st.from_regex(r"[a-z][a-z0-9-]{0,20}[a-z0-9]", fullmatch=True)


@given(ids, ids, ids)
@settings(max_examples=100)
def test_a_name_comes_back_as_it_was(organization: str, project: str, collector: str) -> None:
    tenant = Tenant(OrganizationId(organization), ProjectId(project))
    name = SpiffeName("byoc.test", tenant, CollectorId(collector))
    assert parse_name(name.render()) == name


@given(st.text(max_size=80) | st.text(max_size=20).map(lambda text: f"spiffe://byoc.test/org/{text}"))
@settings(max_examples=200)
def test_what_is_read_is_what_would_be_written(text: str) -> None:
    try:
        name = parse_name(text)
    except InvalidInput:
        return
    assert name.render() == text


@pytest.mark.parametrize(
    "uri",
    [
        "spiffe://byoc.test/org/acme/project/prod/collector/c1/",
        "spiffe://byoc.test/org/acme/project/prod/collector/c1?x=1",
        "spiffe://byoc.test/org/acme/project/prod/collector/c1\n",
        "spiffe://byoc.test/org/acme/project/prod/collector/..",
        "spiffe://byoc.test/org/acme/project/prod/collector/%63%31",
        "spiffe://byoc.test:443/org/acme/project/prod/collector/c1",
        "spiffe://user@byoc.test/org/acme/project/prod/collector/c1",
        "spiffe://BYOC.test/org/acme/project/prod/collector/c1",
        "SPIFFE://byoc.test/org/acme/project/prod/collector/c1",
        "spiffe://byoc.test/org/ACME/project/prod/collector/c1",
        "spiffe://byoc.test/org//project/prod/collector/c1",
        "spiffe://byoc.test/org/acme/project/prod",
        "https://byoc.test/org/acme/project/prod/collector/c1",
    ],
)
def test_what_is_nearly_a_name_is_none(uri: str) -> None:
    with pytest.raises(InvalidInput):
        parse_name(uri)


@pytest.mark.parametrize("domain", ["", "Byoc", "a/b", "a:1", "a b", "-a", "a" * 300])
def test_a_trust_domain_is_a_lower_case_dns_name(domain: str) -> None:
    with pytest.raises(InvalidInput, match="trust domain"):
        parse_trust_domain(domain)
