"""Which names a server may give itself when it is connected to by the name of a domain."""

from __future__ import annotations

import pytest

from engine.client.controller import is_below


@pytest.mark.parametrize("name", ["dc1.example.test", "DC1.Example.Test", "a-b_c.site.example.test"])
@pytest.mark.parametrize("domain", ["example.test", "EXAMPLE.TEST", "example.test."])
def test_hosts_of_the_domain(name: str, domain: str) -> None:
    assert is_below(name, domain)


@pytest.mark.parametrize(
    "name",
    [
        *("", "dc1", "example.test", ".example.test", "dc1.example.test.", "dc1..example.test"),
        *("dc1.other.test", "dc1.badexample.test", "dc1.example.test.evil.test"),
        *(
            "cifs/x.example.test",
            "x@y.example.test",
            "x\\y.example.test",
            "x y.example.test",
            "x\n.example.test",
        ),
        *("x.example.test\n", f"{'a' * 64}.example.test", "\ud800.example.test", "ｄc1.example.test"),
    ],
)
def test_others(name: str) -> None:
    assert not is_below(name, "example.test")
