"""A value in, its pickle out: by value what workers cannot import, by reference what is one of its kind where they can.

What goes by value and is one of its kind here (a class, a cached function, a sentinel of the main script) is one there
too, whatever it comes with and however often, and itself again when it comes home.
"""

from __future__ import annotations

import ast
import copyreg
import dis
import io
import sys
import threading
import typing
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import Context, ContextVar, Token
from enum import Enum
from functools import cached_property, lru_cache, update_wrapper
from pickle import PickleBuffer, PicklingError
from types import CodeType, FunctionType, MemberDescriptorType, ModuleType, resolve_bases
from typing import Any, ForwardRef, Literal, NewType, ParamSpec, TypeVarTuple
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

import cloudpickle

from starburst_common.pickling.preferred import Script
from starburst_common.pickling.setup import Spaces, in_module

MAINS = ("__main__", "__mp_main__")  #: what the user's program is called, in itself and in children that it spawned
#: What cloudpickle 3.1.3 writes for the name: it hides from a traceback where it was, and which line it was.
_HIDDEN = "<dynamic-code>"
_HIDES = any(
    isinstance(each, str) and each == _HIDDEN
    for each in cloudpickle.Pickler.dispatch_table[CodeType]((lambda: None).__code__)[1]
)
#: Kinds of random generators, and where they are from.
_GENERATORS = frozenset({"Random", "Generator", "RandomState", "BitGenerator", "SeedSequence"})
_RANDOM = ("random", "numpy.random")
_WITHIN = frozenset({"BitGenerator", "SeedSequence"})  #: which others hold, and come after them then


def dumps(
    value: Any,
    *,
    buffer_callback: Callable[[PickleBuffer], Any] | None = None,
    imports: set[str] | None = None,
    codes: list[CodeType] | None = None,
    generators: set[str] | None = None,
) -> bytes:
    """`cloudpickle.dumps`, but what is one of its kind stays so, and code keeps the name of its file.

    `imports` is given the top-level modules that code imports when it runs, `codes` all code that goes by value,
    `generators` the kinds of random generators. Raises what pickling raises, also for what a worker would look for in
    its own main program.

    >>> import dataclasses, pickle
    >>> code = compile("def double(x): return 2 * x", "/home/me/mine.py", "exec")
    >>> pickle.loads(dumps(code)).co_filename
    '/home/me/mine.py'
    >>> pickle.loads(dumps(dataclasses.MISSING)) is dataclasses.MISSING
    True
    """
    if (spawned := sys.modules.get("__mp_main__")) is not None:
        cloudpickle.register_pickle_by_value(spawned)
    out = io.BytesIO()
    pickler = Pickler(out, 5, buffer_callback=buffer_callback)
    pickler.imports = imports
    pickler.codes = codes
    pickler.generators = generators
    pickler.dump(value)
    return out.getvalue()


def _generator(kind: type) -> str | None:
    """Which kind of random generator it is, or derives from, if any."""
    bases = (each for each in kind.__mro__ if each.__name__ in _GENERATORS and each.__module__.startswith(_RANDOM))
    return next((each.__name__ for each in bases), None)


def by_reference(obj: Any, name: str | None = None) -> bool:
    """Whether a worker finds this very object under its module and name."""
    module, name = getattr(obj, "__module__", None), name or getattr(obj, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or module in MAINS:
        return False
    return not _sent_by_value(module) and in_module(module, name) is obj


def _sent_by_value(module: str) -> bool:
    by_value = cloudpickle.list_registry_pickle_by_value()
    return bool(by_value) and any(module == name or module.startswith(f"{name}.") for name in by_value)


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle's, with that difference."""

    imports: set[str] | None = None
    codes: list[CodeType] | None = None
    generators: set[str] | None = None
    hints = True  #: what annotations name goes along
    cells: dict[int, tuple[Any, Any]] | None = None  #: variables of closures, and what stands for each, empty still

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is CodeType:
            if self.imports is not None:
                self.imports.update(_imports(obj))
            if self.codes is not None:
                self.codes.append(obj)
            make, arguments = self.dispatch_table[CodeType](obj)
            if _HIDES:
                told = (obj.co_filename if isinstance(each, str) and each == _HIDDEN else each for each in arguments)
                return make, tuple(told)
            return make, arguments
        if kind is FunctionType:
            return self._function(obj)
        if issubclass(kind, type):
            made = super().reducer_override(obj)
            return made if made is NotImplemented or len(made) < 6 else self._hinted(obj, _class_by_value(obj, made))
        if kind is ModuleType and obj.__name__ in MAINS:
            raise PicklingError(f"the module {obj.__name__!r} itself: workers have another, use what is in it by name")
        if kind in _REDUCERS:
            return _REDUCERS[kind](self, obj)
        if kind is Spaces:
            return Spaces, (list(self.globals_ref.values()),)
        if kind in _THEIRS:
            return NotImplemented
        if isinstance(obj, Enum) and not by_reference(kind) and obj.__class__.__members__.get(obj.name) is obj:
            return getattr, (kind, obj.name)
        if (place := _place_in_library(obj)) is not None:
            return _fetched, place
        if kind.__name__ == "NsResolver" and kind.__module__.startswith("pydantic."):
            return kind, ()  # a script's whole namespace, which a checked call has read its annotations in
        known = self.generators
        if known is not None and (found := _generator(kind)) is not None and not (known and found in _WITHIN):
            known.add(found)
        return self._reduced(obj)

    def function_parts(self, function: FunctionType) -> Any:
        """How a function is made empty, and then filled; None if it goes by reference."""
        parts = self._function(function)
        return None if parts is NotImplemented else parts

    def _hinted(self, cls: type, made: tuple[Any, ...]) -> tuple[Any, ...]:
        """With what its annotations name in the script, where `typing.get_type_hints` will look for it."""
        if not self.hints or not (names := named_by(cls)):
            return made
        make, arguments, state, *rest = made
        return make, arguments, (_fill_hinted, (state, cls.__module__, names)), *rest

    def _function(self, function: FunctionType) -> Any:
        """Functions over one variable are so there as well: cloudpickle gives each a variable of its own."""
        parts = super().reducer_override(function)
        if parts is not NotImplemented and self.hints:
            parts[2][1]["__globals__"].update(named_by(function))
        if parts is NotImplemented or not function.__closure__ or len(parts[1][-1] or ()) != len(function.__closure__):
            return parts
        make, (*arguments, empty), *rest = parts
        pairs = zip(function.__closure__, empty, strict=True)
        if self.cells is None:
            self.cells = {}
        shared = tuple(self.cells.setdefault(id(cell), (cell, own))[1] for cell, own in pairs)
        return make, (*arguments, shared), *rest

    def _reduced(self, obj: Any) -> Any:
        kind = type(obj)
        if kind in self.dispatch_table:
            made = self.dispatch_table[kind](obj)
        else:
            try:
                made = obj.__reduce_ex__(5)
            except Exception:
                if (place := _anywhere(obj)) is not None:
                    return _fetched, place
                raise
        if isinstance(made, tuple) and any(type(each) is str and _names_in_main(each, obj) for each in made[1]):
            raise PicklingError(f"{obj!r:.100} of {MAINS[0]} is sent as a name, which workers do not have")
        if isinstance(made, str):
            if (module := getattr(obj, "__module__", None)) not in MAINS:
                return made
            if _known(obj) or in_module(module, made) is obj:
                return _made, (_token(obj), copyreg.__newobj__, (kind,)), obj.__getstate__()  # type: ignore[attr-defined]
            raise PicklingError(f"{made!r} of {module} is sent as a name, which workers do not have")
        if not _is_empty(made):
            return _with_setter(kind, made)
        place = _place(obj)
        if place is not None and place[0] not in MAINS:
            return _fetched, place
        return (_made, (_token(obj), *made[:2])) if place is not None or _known(obj) else made


def _with_setter(kind: Any, made: tuple[Any, ...]) -> tuple[Any, ...]:
    """Filled without asking its own `__getattr__`, which may need what is not there yet, or `__setattr__`."""
    asks = hasattr(kind, "__getattr__") or kind.__setattr__ is not object.__setattr__
    fills = asks and not hasattr(kind, "__setstate__") and 2 < len(made) < 6 and made[2]
    return (*made, *[None] * (5 - len(made)), _fill) if fills else made


def _fill(obj: Any, state: Any) -> None:
    attributes, slots = state if isinstance(state, tuple) else (state, None)
    if attributes:
        object.__getattribute__(obj, "__dict__").update(attributes)
    for name, value in (slots or {}).items():
        object.__setattr__(obj, name, value)


#: What cloudpickle has an answer to, which is no other for any of them.
_THEIRS = frozenset(cloudpickle.Pickler.dispatch_table)


def _names_in_main(text: str, obj: Any) -> bool:
    """Whether a text, such as `__main__:double`, tells only where this program has the object."""
    main, _, name = text.partition(":")
    if main in MAINS and name:
        return in_module(main, name) is not None
    return any(text.startswith(f"{each}.") and in_module(each, text[len(each) + 1 :]) is obj for each in MAINS)


def _is_empty(made: tuple[Any, ...]) -> bool:
    """Whether nothing but its identity tells an object from another one of its class."""
    return made[0] is copyreg.__newobj__ and len(made[1]) == 1 and not any(made[2:])  # type: ignore[attr-defined]


# --- what is one of its kind ------------------------------------------------------------------------------------------

_lock = threading.Lock()
_by_token: WeakValueDictionary[str, Any] = WeakValueDictionary()
_tokens: WeakKeyDictionary[Any, str] = WeakKeyDictionary()
_copies: WeakSet[Any] = WeakSet()
_empty: WeakSet[Any] = WeakSet()  # copies that have not got their state yet
_renewing = False
_kept: dict[str, Any] = {}  # what no weak reference can be to: such as context variables, which live as long as we do
_kept_tokens: dict[int, str] = {}


def _known(obj: Any) -> str | None:
    """The name that this object has, if it has one."""
    with suppress(TypeError):  # no weak reference can be to it, or it has no hash
        if (token := _tokens.get(obj)) is not None and _by_token.get(token) is obj:
            return token
    return _kept_tokens.get(id(obj))


def _token(obj: Any) -> str:
    """Names this object in whatever process, from the one on which it was first sent."""
    with _lock:
        if (token := _known(obj)) is None:
            token = uuid.uuid4().hex
            _name(obj, token)
        return token


def _name(obj: Any, token: str) -> None:
    try:
        _by_token[token] = obj
        _tokens[obj] = token
    except TypeError:
        _by_token.pop(token, None)
        _kept[token], _kept_tokens[id(obj)] = obj, token


def _made(token: str, make: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """The object of that name, or a copy of it."""
    with _lock:
        if (known := _by_token.get(token, _kept.get(token))) is not None:
            return known
    made = make(*arguments)
    with _lock:
        if (known := _by_token.get(token, _kept.get(token))) is not None:
            return known
        _name(made, token)
        with suppress(TypeError):
            _copies.add(made)
            _empty.add(made)
    return made


def _filled(made: Any, state: tuple[Callable[[Any, Any], Any], Any]) -> None:
    """Give a new copy what its original has. An old one keeps what it has got since, but where a function is loaded.

    The original, come home, stays as it is.
    """
    if made in _empty or (_renewing and made in _copies):
        _empty.discard(made)
        fill, rest = state
        with _without(type(made).__mro__, "__setattr__", "__delattr__"):  # of a metaclass
            fill(made, rest)


@contextmanager
def renewing() -> Iterator[None]:
    """What is loaded meanwhile brings the state of its original along: a function does, items and answers do not."""
    global _renewing
    _renewing = True
    try:
        yield
    finally:
        _renewing = False


def _fetched(module: str, name: str) -> Any:
    """What an importable module has under a dotted name."""
    __import__(module)
    found: Any = sys.modules[module]
    for part in name.split("."):
        found = getattr(found, part)
    return found


# --- where an object is found -----------------------------------------------------------------------------------------

_Place = tuple[str, str]
_Beside = tuple[int, list[dict[str, Any]], dict[int, _Place]]
_by_kind: WeakKeyDictionary[type, _Beside] = WeakKeyDictionary()  # as long as the modules have so many attributes
#: Of what type the objects are whose module their class does not tell; no two can be told apart but by identity.
_NAMELESS = (object, ContextVar)
_nameless: tuple[int, dict[int, tuple[Any, _Place]]] = (0, {})


def _place_in_library(obj: Any) -> _Place | None:
    """Where the standard library or an installed package has this object beside its class."""
    place = _beside_its_class(obj)
    return place if place is not None and _installed(place[0].partition(".")[0]) else None


def _place(obj: Any) -> _Place | None:
    """Where a module has this object: beside its class, or anywhere if its class tells nothing."""
    kind = type(obj)
    if kind not in _NAMELESS:
        return _beside_its_class(obj)
    global _nameless
    if _nameless[0] != len(sys.modules):
        found = {id(value): (value, (module, name)) for module, name, value in _all() if type(value) in _NAMELESS}
        _nameless = len(sys.modules), found
    if (known := _nameless[1].get(id(obj))) is not None:
        return known[1]
    mains = [(module, vars(sys.modules[module])) for module in MAINS if module in sys.modules]
    return next(((module, name) for module, space in mains for name, value in [*space.items()] if value is obj), None)


def _anywhere(obj: Any) -> _Place | None:
    """Where any module has this object: slow, and for what cannot be sent otherwise."""
    return next(((module, name) for module, name, value in _all() if value is obj), None)


def _all() -> Iterator[tuple[str, str, Any]]:
    for module, found in list(sys.modules.items()):
        if isinstance(found, ModuleType) and module not in MAINS and not _sent_by_value(module):
            for name, value in list(vars(found).items()):
                yield module, name, value


def _beside_its_class(obj: Any) -> _Place | None:
    kind = type(obj)
    known = _by_kind.get(kind)
    if known is None or known[0] != sum(map(len, known[1])):
        _by_kind[kind] = known = _attributes_of(kind)
    place = known[2].get(id(obj))
    return place if place is not None and vars(sys.modules[place[0]]).get(place[1]) is obj else None


def _attributes_of(kind: type) -> _Beside:
    module = kind.__module__
    if not isinstance(module, str) or _sent_by_value(module):
        return 0, [], {}
    parts = module.split(".")
    modules = [".".join(parts[:upto]) for upto in range(1, len(parts) + 1)]
    spaces = {name: vars(sys.modules[name]) for name in modules if name in sys.modules}
    places = {}
    for name, space in spaces.items():
        places.update({id(value): (name, key) for key, value in list(space.items()) if type(value) is kind})
    return sum(map(len, spaces.values())), list(spaces.values()), places


@lru_cache(maxsize=1024)
def _installed(package: str) -> bool:
    if package in sys.stdlib_module_names:
        return True
    file = getattr(sys.modules.get(package), "__file__", None) or ""
    return "site-packages" in file or "dist-packages" in file


# --- classes ----------------------------------------------------------------------------------------------------------

_TypedDictMeta: Any = type(typing.TypedDict("_", {}))  # type: ignore[operator]


def _class_by_value(cls: type, made: tuple[Any, ...]) -> tuple[Any, ...]:
    """What cloudpickle makes of a class, with what it forgets: slots, aliases and attributes of enums, typed dicts."""
    make, arguments, (attributes, slots_state), *_, fill = made
    if issubclass(cls, Enum):
        return _enum_by_value(cls, attributes, fill)
    metaclass, name, bases, given, *_ = arguments
    if type(metaclass.__new__) is type(type.__new__) and metaclass.__new__ is not type.__new__:
        raise PicklingError(
            f"the class {cls.__qualname__}, made in C by {metaclass.__module__}, can only travel with a module of yours"
        )
    own = vars(cls)
    given["__qualname__"] = cls.__qualname__
    if "__slots__" in own:
        slots = [key for key, value in own.items() if _is_slot(value, cls)]
        slots += [key for key in ("__dict__", "__weakref__") if key in own]
        if typing.NamedTuple not in own.get("__orig_bases__", ()):  # which gives its classes their own
            given["__slots__"] = tuple(slots)
        attributes = {key: value for key, value in attributes.items() if not _is_slot(value, cls)}
        if not isinstance(attributes.get("__slots__"), str | tuple | list | dict):
            attributes["__slots__"] = tuple(slots)
    if metaclass is _TypedDictMeta:
        bases = tuple(base for base in own.get("__orig_bases__", ()) if typing.get_origin(base) is typing.Generic)
    parts = _token(cls), _make_class, (make, (metaclass, name, bases, given, None, None))
    return _made, parts, (fill, (attributes, slots_state)), None, None, _filled


def _make_class(make: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """As its bases and metaclass did what they do at home, with keywords, and it comes as its state."""
    bases = {base for each in resolve_bases(arguments[2]) for base in each.__mro__}
    with _without(bases, "__init_subclass__"), _without(arguments[0].__mro__, "__prepare__", "__new__", "__init__"):
        return make(*arguments)


@contextmanager
def _without(classes: Iterable[type], *names: str) -> Iterator[None]:
    """Copies among these classes do not do this meanwhile."""
    hooks = [
        (each, name, vars(each)[name]) for each in classes if each in _copies for name in names if name in vars(each)
    ]
    for each, name, _ in hooks:
        type.__delattr__(each, name)
    try:
        yield
    finally:
        for each, name, hook in hooks:
            type.__setattr__(each, name, hook)


def _is_slot(value: Any, cls: type) -> bool:
    return type(value) is MemberDescriptorType and value.__objclass__ is cls


def _enum_by_value(cls: Any, attributes: dict[str, Any], fill: Any) -> tuple[Any, ...]:
    data = cls._member_type_
    members = []
    for name, member in cls.__members__.items():
        raw = data(member) if data in (int, float, complex, str, bytes, tuple, frozenset) else None
        members.append((name, raw, member._value_))
    for name in (*cls.__members__, "_member_map_", "_value2member_map_", "_member_names_", "_member_type_"):
        attributes.pop(name, None)
    told = {name: _told(member) for name, member in cls.__members__.items()}
    arguments = (cls.__name__, cls.__qualname__, cls.__module__, cls.__bases__, type(cls), members)
    return _made, (_token(cls), _make_enum, arguments), (_fill_enum, (fill, attributes, told)), None, None, _filled


_MEMBERS = ("_name_", "_value_", "_sort_order_", "__objclass__")


def _told(member: Any) -> dict[str, Any]:
    """The attributes that its class's own code has given a member."""
    state = object.__getstate__(member)
    parts = state if isinstance(state, tuple) else (state,)
    return {key: value for part in parts for key, value in (part or {}).items() if key not in _MEMBERS}


class _Raw:
    """A member to be, for the stand-in of its class's `__new__`."""

    def __init__(self, raw: Any, value: Any) -> None:
        self.raw, self.value = raw, value


def _make_enum(name: str, qualname: str, module: str, bases: tuple[Any, ...], metaclass: Any, members: Any) -> Any:
    """An enum with its members and nothing else; no code of the user's runs to make them."""

    def new(cls: Any, given: Any, *_: Any) -> Any:
        made = given[0] if isinstance(given, tuple) else given
        data = cls._member_type_
        member = data.__new__(cls) if made.raw is None else data.__new__(cls, made.raw)
        member._value_ = made.value
        return member

    body = metaclass.__prepare__(name, bases)
    body["__module__"], body["__qualname__"] = module, qualname
    body["__new__"], body["__init__"] = new, lambda self, *_: None
    for member, raw, value in members:
        body[member] = _Raw(raw, value)
    made = metaclass.__new__(metaclass, name, bases, body)
    type.__delattr__(made, "__init__")
    return made


def _fill_enum(made: Any, state: Any) -> None:
    fill, attributes, told = state
    fill(made, (attributes, {}))
    for name, rest in told.items():
        for key, value in rest.items():
            object.__setattr__(made.__members__[name], key, value)


# --- what annotations name --------------------------------------------------------------------------------------------

_travelling: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def named_by(obj: type | FunctionType) -> dict[str, Any]:
    """What texts in its annotations name among the globals of its function or script, and can travel."""
    if isinstance(obj, FunctionType):
        annotations, space = obj.__annotations__, obj.__globals__
    elif (main := sys.modules.get(obj.__module__) if obj.__module__ in MAINS else None) is not None:
        annotations, space = vars(obj).get("__annotations__", {}), vars(main)
    else:
        return {}
    found: dict[str, Any] = {}
    todo = [text for hint in annotations.values() for text in _texts(hint)]
    while todo:
        for name in _names(todo.pop()):
            if name in space and name not in found and _travels(value := space[name]):
                found[name] = value
                todo += _texts(value)
    return found


def _texts(hint: Any) -> Iterator[str]:
    if isinstance(hint, str):
        yield hint
    elif isinstance(hint, ForwardRef):
        yield hint.__forward_arg__
    elif not isinstance(hint, type) and typing.get_origin(hint) is not Literal:
        arguments = getattr(hint, "__args__", None)
        for each in arguments if isinstance(arguments, tuple) else ():
            yield from _texts(each)


@lru_cache(maxsize=4096)
def _names(text: str) -> tuple[str, ...]:
    """Names in an annotation, also in texts within it.

    >>> _names("dict[str, 'Point | None'] | Literal['x']")
    ('dict', 'str', 'Point', 'Literal')
    """
    try:
        return tuple(dict.fromkeys(_names_below(ast.parse(text.strip(), mode="eval"))))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()


def _names_below(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield from _names(node.value)
    elif isinstance(node, ast.Subscript) and ast.unparse(node.value).rpartition(".")[2] == "Literal":
        yield from _names_below(node.value)
    else:
        for each in ast.iter_child_nodes(node):
            yield from _names_below(each)


def _travels(value: Any) -> bool:
    """Whether this can stand in an annotation, and be pickled: what cannot must not keep others from travelling."""
    if isinstance(value, ModuleType):
        return value.__name__ not in MAINS and sys.modules.get(value.__name__) is value
    if by_reference(value):
        return True
    lasts = isinstance(value, type | FunctionType) or type(value).__module__ in ("typing", "types")
    with suppress(Exception):  # no weak reference can be to it, or it has no hash
        if lasts and (known := _travelling.get(value)) is not None:
            return known
    pickler = Pickler(io.BytesIO(), 5)
    pickler.hints = False
    try:
        pickler.dump(value)
        can = True
    except Exception:
        can = False
    with suppress(Exception):
        if lasts:
            _travelling[value] = can
    return can


def _fill_hinted(cls: type, state: Any) -> None:
    (fill, rest), module, names = state
    fill(cls, rest)
    if isinstance(sys.modules.get("__main__"), Script):
        if module not in sys.modules:
            sys.modules[module] = Script(module)
            cloudpickle.register_pickle_by_value(sys.modules[module])
        vars(sys.modules[module]).update(names)


# --- functions and the rest -------------------------------------------------------------------------------------------


def _reduce_cached(pickler: Pickler, cached: Any) -> Any:
    """A function with a cache: by value without what is in the cache, of which each process has its own."""
    name = getattr(cached, "__qualname__", None)
    if name and by_reference(cached):
        return name
    module = getattr(cached, "__module__", None)
    ours = module in MAINS or _sent_by_value(module or "")
    if (
        name and module and not ours and getattr(in_module(module, name), "__func__", None) is cached
    ):  # of a class method
        return _fetched, (module, f"{name}.__func__")
    function, parameters = cached.__wrapped__, cached.cache_parameters()
    own = {key: value for key, value in vars(cached).items() if key != "__wrapped__"}
    if type(function) is FunctionType and (parts := pickler.function_parts(function)) is not None:
        make, arguments, state, *_, fill = parts
        parts = _token(cached), _make_cached, (parameters, make, arguments)
        return _made, parts, (_fill_cached, (fill, state, own)), None, None, _filled
    parts = _token(cached), _cached, (parameters, function)
    return _made, parts, (_fill_cached, (None, None, own)), None, None, _filled


def _make_cached(parameters: dict[str, Any], make: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    return _cached(parameters, make(*arguments))


def _cached(parameters: dict[str, Any], function: Callable[..., Any]) -> Any:
    return lru_cache(**parameters)(function)


def _fill_cached(cached: Any, state: Any) -> None:
    fill, rest, own = state
    if fill is not None:
        fill(cached.__wrapped__, rest)
        update_wrapper(cached, cached.__wrapped__)
    vars(cached).update(own)


def _reduce_named(make: Callable[..., Any], *attributes: str) -> Callable[[Pickler, Any], Any]:
    """Of what is made of a few of its attributes, and is otherwise found by its name."""

    def reduce(_: Pickler, obj: Any) -> Any:
        if by_reference(obj, obj.__name__):
            return obj.__name__
        return _made, (_token(obj), make, (obj.__module__, *(getattr(obj, each) for each in attributes)))

    return reduce


def _new_type(module: str, qualname: str, supertype: Any) -> Any:
    made = NewType(qualname, supertype)  # type: ignore[misc]
    made.__module__ = module
    return made


def _param_spec(module: str, name: str, bound: Any, covariant: bool, contravariant: bool) -> Any:
    made = ParamSpec(name, bound=bound, covariant=covariant, contravariant=contravariant)  # type: ignore[misc]
    with suppress(AttributeError):
        made.__module__ = module
    return made


def _type_var_tuple(module: str, name: str) -> Any:
    made = TypeVarTuple(name)  # type: ignore[misc]
    with suppress(AttributeError):
        made.__module__ = module
    return made


def _type_alias(_: str, name: str, value: Any, parameters: tuple[Any, ...]) -> Any:
    return typing.TypeAliasType(name, value, type_params=parameters)  # type: ignore[attr-defined]


def _reduce_context_variable(_: Pickler, variable: ContextVar[Any]) -> Any:
    if (place := _place(variable)) is not None and place[0] not in MAINS:
        return _fetched, place
    default: list[Any] = []
    with suppress(LookupError):  # it has none
        default.append(Context().run(variable.get))
    return _made, (_token(variable), _context_variable, (variable.name, *default))


def _context_variable(name: str, *default: Any) -> ContextVar[Any]:
    return ContextVar(name, default=default[0]) if default else ContextVar(name)


def _reduce_cached_property(_: Pickler, prop: cached_property[Any]) -> Any:
    return _cached_property, (prop.func, prop.attrname)


def _cached_property(function: Callable[[Any], Any], name: str | None) -> cached_property[Any]:
    made = cached_property(function)
    made.attrname = name
    return made


def _reduce_missing_token(_: Pickler, __: Any) -> Any:
    return _fetched, ("contextvars", "Token.MISSING")


def _reduce_weak(_: Pickler, weak: Any) -> Any:
    return type(weak), (dict(weak),)


_REDUCERS: dict[type, Callable[[Pickler, Any], Any]] = {
    type(_installed): _reduce_cached,
    NewType: _reduce_named(_new_type, "__qualname__", "__supertype__"),
    ParamSpec: _reduce_named(_param_spec, "__name__", "__bound__", "__covariant__", "__contravariant__"),
    TypeVarTuple: _reduce_named(_type_var_tuple, "__name__"),
    ContextVar: _reduce_context_variable,
    type(Token.MISSING): _reduce_missing_token,
    cached_property: _reduce_cached_property,
    WeakKeyDictionary: _reduce_weak,
    WeakValueDictionary: _reduce_weak,
}
if sys.version_info >= (3, 12):
    _REDUCERS[typing.TypeAliasType] = _reduce_named(_type_alias, "__name__", "__value__", "__type_params__")


@lru_cache(maxsize=4096)
def _imports(code: CodeType) -> frozenset[str]:
    """Top-level modules that code imports, by a statement or by a call with a text.

    >>> sorted(_imports((lambda: (__import__("shop.orders"), __import__("till"))).__code__))
    ['shop', 'till']
    """
    names = [each.argval for each in dis.get_instructions(code) if each.opname == "IMPORT_NAME"]
    if {"import_module", "__import__"} & set(code.co_names):
        names += [each for each in code.co_consts if isinstance(each, str)]
    return frozenset(top for name in names if (top := name.partition(".")[0]).isidentifier())
