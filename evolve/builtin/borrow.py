"""Taking parts of another candidate along with the constants and functions that they need."""

from collections.abc import Iterable

import libcst as cst

from evolve.builtin.syntax import (
    Definition,
    Statement,
    code,
    definitions,
    evolved_part,
    fresh,
    names_in,
    renamed,
    with_definitions,
    with_import,
)


def borrowed(
    module: cst.Module, donor: cst.Module, parts: Iterable[cst.CSTNode], share_constants: bool = True
) -> tuple[cst.Module, dict[str, str]]:
    """`module` with all of `donor` that `parts` need, and how names in `parts` have to be renamed for it.

    What is the same in both is shared; what only has the same name comes in under a new one. With
    `share_constants` a constant of `module` stands for one of the same name with another value.
    """
    theirs, ours = definitions(donor), definitions(module)
    needed: list[str] = []
    used = set[str]()
    for part in parts:
        _collect(part, theirs, needed)
        used |= names_in(part)
    used = used.union(*(names_in(theirs[name]) for name in needed))
    for name in sorted(_imported(donor) & used - set(ours)):
        module = with_import(module, name)
    names: dict[str, str] = {}
    new: list[Statement] = []
    taken = names_in(module) | names_in(donor) | set(ours)
    for name in needed:
        node = renamed(theirs[name], {old: now for old, now in names.items() if old != name})
        if name not in ours:
            new.append(node)
            continue
        is_constant = isinstance(node, cst.SimpleStatementLine)
        if code(node) == code(ours[name]) or (is_constant and share_constants):
            continue
        names[name] = fresh(name, taken)
        taken.add(names[name])
        new.append(_called(node, names[name]))
    return with_definitions(module, new), names


def _imported(module: cst.Module) -> set[str]:
    """What a module imports by `import name`."""
    imports = [
        line.body[0]
        for line in module.body
        if isinstance(line, cst.SimpleStatementLine) and isinstance(line.body[0], cst.Import)
    ]
    return {code(alias.name) for one in imports for alias in one.names if alias.asname is None}


def _collect(part: cst.CSTNode, theirs: dict[str, Definition], needed: list[str], *inside: str) -> None:
    """Appends what `part` needs to `needed`, dependencies first; it is part of the definitions `inside`."""
    for name in sorted(names_in(part) & set(theirs)):
        if name not in (*needed, *inside, "Policy") and theirs[name] is not part:
            _collect(theirs[name], theirs, needed, *inside, name)
            if name not in needed:
                needed.append(name)


def _called(node: Definition, name: str) -> Statement:
    """The same definition under another name."""
    if isinstance(node, cst.SimpleStatementLine):
        assign = node.body[0]
        assert isinstance(assign, cst.Assign)
        target = assign.targets[0].with_changes(target=cst.Name(name))
        return node.with_changes(body=[assign.with_changes(targets=[target])])
    return node.with_changes(name=cst.Name(name))


def without_unused(module: cst.Module, parent: cst.Module) -> cst.Module:
    """`module` without the constants and functions that nothing reads any more.

    What nothing reads in its parent either is there for somebody outside: the policy, or another entry.
    """
    entries = _unread(parent)
    while True:
        every = definitions(module)
        inside = evolved_part(module)
        unused = {every[name] for name in _unread(module) - entries if every[name] in inside}
        if not unused:
            return module
        module = module.with_changes(body=[node for node in module.body if node not in unused])


def _unread(module: cst.Module) -> set[str]:
    """Names that a module defines and no other part of it reads."""
    every = definitions(module)
    own = {id(node): name for name, node in every.items()}
    read = set[str]()
    for node in module.body:
        read |= names_in(node) - {own.get(id(node), "")}
    return set(every) - read
