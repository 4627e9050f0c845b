from sandbox.protections import protections


def test_every_protection_holds_here():
    found = protections()
    assert {one.name for one in found} >= {
        "bubblewrap",
        "net namespace",
        "system call filter",
        "memory limit",
    }
    assert [one for one in found if not one.active] == []
