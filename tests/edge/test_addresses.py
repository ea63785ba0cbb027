"""Parsing of --members."""

import pytest

from dico_tf.edge.members.addresses import Address, parse
from dico_tf.errors import UserError

COMMITTEE = ["branch_0", "branch_1"]


def test_every_member_has_addresses_in_the_committees_order():
    addresses = parse(["branch_1=tfserving://10.0.0.7:8500/cifar.b1", "branch_0=pi-0:9000|[::1]:9001"], COMMITTEE)
    assert list(addresses) == COMMITTEE
    assert addresses["branch_0"] == [Address("pi-0:9000"), Address("[::1]:9001")]
    assert addresses["branch_1"] == [Address("10.0.0.7:8500", "cifar.b1")]
    assert [str(place) for places in addresses.values() for place in places][2] == "tfserving://10.0.0.7:8500/cifar.b1"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["branch_0=a:1"], "no address of branch_1"),
        ([], "no address of branch_0, branch_1"),
        (["branch_0=a:1", "branch_7=a:1"], "'branch_7' is not in the manifest's committee; did you mean"),
        (["branch_0=a:1", "branch_0=b:1"], "names branch_0 twice"),
        (["branch_0"], "branch_0= is not an address"),
        (["branch_0=a"], "branch_0=a is not an address"),
        (["branch_0=a:0"], "is not an address"),
        (["branch_0=a:65536"], "is not an address"),
        (["branch_0=a:1|"], "branch_0= is not an address"),
        (["branch_0=http://a:1"], "is not an address"),
        (["branch_0=tfserving://a:1"], "is not an address"),
        (["branch_0=tfserving://a:1/x/y"], "is not an address"),
        (["branch_0=unix:///tmp/x"], "is not an address"),
    ],
)
def test_invalid_addresses_are_refused_by_name(words, message):
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        parse(words, COMMITTEE)
