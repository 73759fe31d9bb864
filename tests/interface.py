#!/usr/bin/env python3
"""The public interface: every item that a user can reach, compared with the committed list, and counted.

    tests/interface.py            fails if the interface differs from tests/interface.txt, or is too large
    tests/interface.py --renew    writes the list anew; commit it together with the change
    tests/interface.py --count    prints how many items there are, by type

The list comes from rustdoc's JSON with all features. It has everything that a program can depend on: items with
their signatures, fields, variants and implemented traits. Counted are types, traits, functions, methods (those that
a trait declares, too) and constants, each once. Not counted are fields, variants, implemented traits and modules.
Items marked `doc(hidden)` are neither listed nor counted: they are for this repository's programs and tests alone.
"""

import collections
import difflib
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIST = ROOT / "tests" / "interface.txt"
# More than for Rust alone: buffers of other languages need addresses of samples, and limits for each call.
MOST = 452
COUNTED = ("struct", "enum", "union", "type", "trait", "fn", "const")


def rustdoc():
    """rustdoc's description of the library."""
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    command = "cargo rustdoc --locked --quiet --lib --profile checked --features async-io,cli,internals,metrics,serde,tokio -- " \
        "-Z unstable-options --output-format json --cap-lints allow"
    subprocess.run(command.split(), cwd=ROOT, env={**os.environ, "RUSTC_BOOTSTRAP": "1"}, check=True)
    return json.loads((target / "doc" / "ringpost.json").read_text())


# ---- types and bounds as text

def many(render, items, separator=", "):
    return separator.join(render(item) for item in items)


def path(resolved):
    """The name without the modules before it, which depend on what the source imports; `io::Error` stays so."""
    names = resolved["path"].split("::")
    short = names[-2:] if names[-1] in ("Error", "Result") else names[-1:]
    return "::".join(short) + arguments(resolved.get("args"))


def arguments(args):
    if not args:
        return ""
    if "parenthesized" in args:
        inner = args["parenthesized"]
        return f"({many(type_, inner['inputs'])})" + returned(inner["output"])
    inner = args["angle_bracketed"]
    parts = [argument(one) for one in inner["args"]] + [constraint(one) for one in inner["constraints"]]
    return f"<{', '.join(parts)}>" if parts else ""


def argument(one):
    if one == "infer":
        return "_"
    (kind, value), = one.items()
    return {"lifetime": str, "type": type_, "const": lambda const: const["expr"]}[kind](value)


def constraint(one):
    (kind, value), = one["binding"].items()
    if kind == "equality":
        (kind, value), = value.items()
        return f"{one['name']} = " + (type_(value) if kind == "type" else value["expr"])
    return f"{one['name']}: " + many(bound, value, " + ")


def bound(one):
    (kind, value), = one.items()
    if kind == "trait_bound":
        for_any = [parameter["name"] for parameter in value["generic_params"]]
        return (f"for<{', '.join(for_any)}> " if for_any else "") + \
            {"none": "", "maybe": "?", "maybe_const": "~const "}[value["modifier"]] + path(value["trait"])
    if kind == "use":
        return f"use<{', '.join(next(iter(arg.values())) for arg in value)}>"
    return value


def type_(one):
    if one == "infer":
        return "_"
    (kind, value), = one.items()
    match kind:
        case "resolved_path":
            return path(value)
        case "generic" | "primitive":
            return value
        case "borrowed_ref":
            lifetime = f"{value['lifetime']} " if value["lifetime"] else ""
            return f"&{lifetime}{'mut ' if value['is_mutable'] else ''}{type_(value['type'])}"
        case "raw_pointer":
            return f"*{'mut' if value['is_mutable'] else 'const'} {type_(value['type'])}"
        case "slice":
            return f"[{type_(value)}]"
        case "array":
            return f"[{type_(value['type'])}; {value['len']}]"
        case "tuple":
            return f"({many(type_, value)}{',' if len(value) == 1 else ''})"
        case "impl_trait":
            return "impl " + many(bound, value, " + ")
        case "dyn_trait":
            parts = [path(each["trait"]) for each in value["traits"]]
            return "dyn " + " + ".join(parts + ([value["lifetime"]] if value["lifetime"] else []))
        case "qualified_path":
            trait = value["trait"]
            of = type_(value["self_type"])
            return f"<{of} as {path(trait)}>::{value['name']}" if trait and trait["path"] else f"{of}::{value['name']}"
        case "function_pointer":
            inputs = [type_(each) for _, each in value["sig"]["inputs"]]
            return f"fn({', '.join(inputs)})" + returned(value["sig"]["output"])
    raise ValueError(f"rustdoc says {kind}, which {pathlib.Path(__file__).name} does not know")


def returned(output):
    return f" -> {type_(output)}" if output else ""


def generics(of):
    """The parameters, and the bounds behind the signature."""
    names, bounds = [], []
    for parameter in of["params"]:
        (kind, value), = parameter["kind"].items()
        if kind == "const":
            names.append(f"const {parameter['name']}: {type_(value['type'])}")
        elif kind == "lifetime":
            names.append(parameter["name"])
        elif not value["is_synthetic"]:
            names.append(parameter["name"] + (": " + many(bound, value["bounds"], " + ") if value["bounds"] else ""))
    for predicate in of["where_predicates"]:
        (kind, value), = predicate.items()
        if kind == "bound_predicate":
            bounds.append(f"{type_(value['type'])}: {many(bound, value['bounds'], ' + ')}")
        elif kind == "lifetime_predicate":
            bounds.append(f"{value['lifetime']}: {' + '.join(value['outlives'])}")
    return f"<{', '.join(names)}>" if names else "", f" where {', '.join(bounds)}" if bounds else ""


def signature(function):
    names, bounds = generics(function["generics"])
    receivers = {"Self": "self", "&Self": "&self", "&mut Self": "&mut self"}
    inputs = []
    for name, each in function["sig"]["inputs"]:
        each = type_(each)
        inputs.append(receivers.get(each, f"self: {each}") if name == "self" else f"{name}: {each}")
    return f"{names}({', '.join(inputs)}){returned(function['sig']['output'])}{bounds}"


# ---- the items

class Interface:
    def __init__(self, description):
        self.index = description["index"]
        self.found = set()
        self.lines = []
        self.module(self.index[str(description["root"])], [])
        self.lines.sort(key=lambda line: (line[1], line[0], line[2]))

    def add(self, kind, place, rest=""):
        self.lines.append((kind, "::".join(place), rest))

    def get(self, id):
        item = self.index.get(str(id))
        hidden = item is None or any("hidden" in str(attribute) for attribute in item["attrs"])
        return None if hidden else item

    def module(self, module, place):
        for id in module["inner"]["module"]["items"]:
            item = self.get(id)
            if item is None or item["visibility"] != "public":
                continue
            if "use" not in item["inner"]:
                self.item(item, place + [item["name"]])
                continue
            use = item["inner"]["use"]
            target = self.get(use["id"])
            if target is None:
                self.add("use", place + [use["source"]])
            elif use["is_glob"]:
                self.module(target, place)
            else:
                self.item(target, place + [use["name"]])

    def item(self, item, place):
        (kind, inner), = item["inner"].items()
        if item["id"] in self.found:
            return
        self.found.add(item["id"])
        match kind:
            case "module":
                self.add("mod", place)
                self.module(item, place)
            case "function":
                self.add("fn", place, signature(inner))
            case "constant":
                self.add("const", place, f": {type_(inner['type'])}")
            case "type_alias":
                self.add("type", place, f" = {type_(inner['type'])}")
            case "trait":
                names, bounds = generics(inner["generics"])
                above = ": " + many(bound, inner["bounds"], " + ") if inner["bounds"] else ""
                self.add("trait", place, names + above + bounds)
                self.members(inner["items"], place)
            case "struct" | "enum" | "union":
                self.type(kind, inner, item, place)
            case _:
                self.add(kind, place)

    def type(self, kind, inner, item, place):
        names, bounds = generics(inner["generics"])
        more = " (non-exhaustive)" if "non_exhaustive" in str(item["attrs"]) else ""
        self.add(kind, place, names + bounds + more)
        if kind == "enum":
            for id in inner["variants"]:
                variant = self.get(id)
                self.add("variant", place + [variant["name"]], self.fields_of(variant["inner"]["variant"]["kind"]))
        elif isinstance(inner.get("kind"), dict):
            (form, fields), = inner["kind"].items()
            for id in fields["fields"] if form == "plain" else fields:
                field = self.get(id) if id is not None else None
                if field and field["visibility"] == "public":
                    self.add("field", place + [field["name"]], f": {type_(field['inner']['struct_field'])}")
        for id in inner["impls"]:
            self.implementation(self.get(id), place)

    def fields_of(self, kind):
        if kind == "plain":
            return ""
        (form, fields), = kind.items()
        if form == "tuple":
            return f"({', '.join(self.field(id) for id in fields)})"
        named = [f"{self.get(id)['name']}: {self.field(id)}" for id in fields["fields"]]
        return f" {{ {', '.join(named)} }}"

    def field(self, id):
        field = self.get(id) if id is not None else None
        return type_(field["inner"]["struct_field"]) if field else "_"

    def implementation(self, item, place):
        if item is None:
            return
        implementation = item["inner"]["impl"]
        if implementation["trait"] is None:
            self.members(implementation["items"], place)
        elif not (implementation["is_synthetic"] or implementation["blanket_impl"]):
            names, bounds = generics(implementation["generics"])
            trait = path(implementation["trait"])
            self.add("impl", place, f": impl{names} {trait} for {type_(implementation['for'])}{bounds}")

    def members(self, ids, place):
        for id in ids:
            item = self.get(id)
            if item is None or item["visibility"] not in ("public", "default"):
                continue
            (kind, inner), = item["inner"].items()
            if kind == "function":
                self.add("fn", place + [item["name"]], signature(inner))
            elif kind == "assoc_const":
                self.add("const", place + [item["name"]], f": {type_(inner['type'])}")

    def text(self):
        return "".join(f"{kind} {place}{rest}\n" for kind, place, rest in self.lines)

    def counted(self):
        return [(kind, place) for kind, place, _ in self.lines if kind in COUNTED]


def main():
    what = sys.argv[1] if len(sys.argv) > 1 else "--check"
    if what not in ("--check", "--renew", "--count"):
        sys.exit(__doc__)
    interface = Interface(rustdoc())
    counted = interface.counted()
    if what == "--count":
        owners = {place for kind, place in counted if kind in ("struct", "enum", "union", "trait")}
        sizes = collections.Counter()
        for _, place in counted:
            owner = place.rpartition("::")[0]
            sizes[owner if owner in owners else place] += 1
        for owner, size in sorted(sizes.items(), key=lambda each: (-each[1], each[0])):
            print(f"{size:4} {owner}")
        print(f"{len(counted):4} in all")
        return
    text = interface.text()
    if what == "--renew":
        LIST.write_text(text)
    elif text != LIST.read_text():
        before = LIST.read_text().splitlines()
        print(*difflib.unified_diff(before, text.splitlines(), "committed", "now", "", "", 0, ""), sep="\n")
        sys.exit("the public interface is not what tests/interface.txt says: if that is meant, run "
                 "`tests/interface.py --renew` and commit the list with the change")
    print(f"{len(counted)} public items, at most {MOST} may be")
    if len(counted) > MOST:
        sys.exit("there are too many public items (`tests/interface.py --count` tells where): what no user needs "
                 "becomes private; `doc(hidden)` is no way out")


if __name__ == "__main__":
    main()
