# ruff: noqa: B019, B024, PIE796, RUF012, UP007, UP044 (users write so)
"""What users define in their scripts, a row each: a function, its argument, the answer wanted, what else holds of it.

`python kinds.py` prints a line for each row whose answer on a worker is wrong.
"""

import abc
import collections
import contextlib
import contextvars
import dataclasses
import enum
import functools
import inspect
import logging
import math
import operator
import pathlib
import random
import re
import sys
import tempfile
import threading
import types
import typing
import weakref
from dataclasses import MISSING, dataclass, field, fields
from os import environ
from random import random as rnd
from typing import Generic, NamedTuple, NewType, ParamSpec, Protocol, TypedDict, TypeVar, TypeVarTuple
from unittest import mock

import attrs
import pydantic
import pydantic_core

ROWS = []


def ask(name, fn, arg=None, want=None, check=None):
    ROWS.append((name, fn, arg, want, check))


# --- classes with a say in their attributes
class Stands:
    def __init__(self, whom):
        self.whom = whom

    def __getattr__(self, name):
        return getattr(self.whom, name)


class StandsInSlots:
    __slots__ = ("whom",)
    __init__, __getattr__ = Stands.__init__, Stands.__getattr__


class Unalterable:
    __slots__ = ("whom",)

    def __init__(self, whom):
        object.__setattr__(self, "whom", whom)

    def __setattr__(self, name, value):
        raise AttributeError(name)


for each in (Stands([1]), StandsInSlots([1]), Unalterable([1])):
    ask(f"{type(each).__name__} held", lambda _, held=each: held.whom, 0, [1])
    ask(
        f"{type(each).__name__} given", lambda it: it.whom.count(1) and it, each, check=lambda it: it.whom.count(1) == 1
    )


# --- classes with slots
@dataclass(slots=True)
class P:
    x: int


ask("dataclass slots", P, 1, P(1), lambda o: type(o) is P)


@dataclass(slots=True, frozen=True)
class PF:
    x: int
    y: list = field(default_factory=list)


ask("frozen slots", PF, 1, PF(1), lambda o: type(o) is PF and not hasattr(o, "__dict__"))


@dataclass(slots=True, weakref_slot=True)
class PW:
    x: int


ask(
    "weakref slot",
    lambda x: (lambda p: [weakref.ref(p)() is p, p])(PW(x)),
    1,
    [True, PW(1)],
    lambda o: type(o[1]) is PW,
)


class S:
    __slots__ = "x"

    def __init__(self, x):
        self.x = x

    def __eq__(self, o):
        return type(o) is type(self) and o.x == self.x

    __hash__ = None


ask("slots str", S, 1, S(1), lambda o: type(o) is S)


class S2(S):
    __slots__ = ("__dict__", "y")

    def __init__(self, x):
        self.x = x
        self.y = 2
        self.z = 3


ask("slots inherit", S2, 1, S2(1), lambda o: type(o) is S2 and o.z == 3 and o.y == 2)


class S3(S):
    __slots__ = ("__secret", "__weakref__", "_x")

    def __init__(self, x):
        self.x = x
        self.__secret = x
        self._x = x

    def get(self):
        return self.__secret


ask(
    "slots mangled",
    lambda x: (lambda s: [s.get(), s, hasattr(s, "__dict__")])(S3(x)),
    1,
    [1, S3(1), False],
    lambda o: o[1].get() == 1,
)


class SD:
    __slots__ = {"x": "the doc"}

    def __init__(self, x):
        self.x = x


ask("slots dict", lambda x: SD(x), 1, None, lambda o: type(o) is SD and o.x == 1)


class SI:
    __slots__ = (n for n in ("x", "y"))

    def __init__(self, x):
        self.x = x


ask("slots iterator", lambda x: SI(x), 1, None, lambda o: type(o) is SI and o.x == 1)


class S0:
    __slots__ = ()


ask("slots empty", lambda x: [hasattr(S0(), "__dict__"), S0()], 1, None, lambda o: o[0] is False and type(o[1]) is S0)


class S4(S0):
    def __init__(self, x):
        self.x = x


ask("no slots over slots", S4, 1, None, lambda o: type(o) is S4 and o.x == 1)
T = TypeVar("T")


class G(Generic[T]):
    __slots__ = ("v",)

    def __init__(self, v):
        self.v = v


ask("generic slots", G, 1, None, lambda o: type(o) is G and o.v == 1)
ask("generic alias", G[int], 1, None, lambda o: type(o) is G and o.v == 1)


@dataclass(slots=True)
class GD(Generic[T]):
    v: T


ask("generic dataclass slots", GD[int], 1, GD(1), lambda o: type(o) is GD)


class Outer:
    @dataclass(slots=True)
    class Inner:
        x: int

    @dataclass(slots=True)
    class Deep(Inner):
        y: int = 0


ask(
    "nested slots",
    lambda x: [Outer.Inner(x), Outer.Deep(x)],
    1,
    [Outer.Inner(1), Outer.Deep(1)],
    lambda o: type(o[0]) is Outer.Inner and type(o[1]) is Outer.Deep,
)
ask("item of slots", lambda p: p, P(3), P(3), lambda o: type(o) is P)
ask("item isinstance", lambda p: isinstance(p, P) and type(p) is P, P(3), True)


class SP:
    __slots__ = ("a", "b")

    def __init__(self, x):
        self.a = x

    @property
    def c(self):
        return self.a + 1


ask(
    "slots unset",
    lambda x: (SP(x), hasattr(SP(x), "b"), SP(x).c),
    1,
    None,
    lambda o: not hasattr(o[0], "b") and o[1] is False and o[2] == 2,
)


@dataclass(slots=True, kw_only=True)
class KW:
    x: int
    y: int = 2


class KW2(KW):
    __slots__ = ()

    def __init__(self, x):
        super().__init__(x=x)


ask("zero-arg super in slots", KW2, 1, None, lambda o: type(o) is KW2 and o.y == 2)


# --- classes made there, in whose bodies globals are named
LIMIT = 4


def bodies(_):
    class Settings:
        first = LIMIT
        many = [LIMIT for _ in range(2)]
        pattern = re.compile("a")

        class Within:
            again = LIMIT

        def ask(self, limit=LIMIT):
            return limit

    return Settings.first, Settings.many, Settings.pattern.pattern, Settings.Within.again, Settings().ask()


ask("bodies of classes", bodies, 0, (4, [4, 4], "a", 4, 4))

# --- classes of C's that have no name in their module
KEYS, ITERATOR = type({}.keys()), type(iter([]))
ask("nameless classes", lambda _: (isinstance({}.keys(), KEYS), isinstance(iter([]), ITERATOR)), 0, (True, True))


# --- sentinels
@dataclass
class K:
    a: int
    b: int = 1


ask(
    "MISSING",
    lambda _: (
        fields(K)[0].default is MISSING and fields(K)[0].default_factory is MISSING and fields(K)[1].kw_only is False
    ),
    0,
    True,
)


def sub(_):
    @dataclass
    class K2(K):
        c: int = 5

    try:
        K2()
    except TypeError:
        pass
    else:
        return "made"
    return K2(1).c


ask("subclass there", sub, 0, 5)
NOT = object()


class Gone:
    pass


GONE = Gone()


def dflt(x=NOT, y=GONE):
    return x is NOT and y is GONE


ask("own sentinel default", lambda _: dflt(), 0, True)
ask("own sentinel item", lambda x: x[0] is NOT and x[1] is GONE, [NOT, GONE], True)
ask("own sentinel back", lambda _: [NOT, GONE], 0, None, lambda o: o[0] is NOT and o[1] is GONE)


class Single:
    def __reduce__(self):
        return "SINGLE"


SINGLE = Single()
ask("singleton by name", lambda x: x is SINGLE, SINGLE, True)
ask("singleton back", lambda x: SINGLE, 0, None, lambda o: o is SINGLE)
sent = inspect.Parameter.empty
ask("inspect empty", lambda _: inspect.signature(dflt).parameters["x"].annotation is sent, 0, True)
initial = functools._initial_missing
ask("functools missing", lambda _: initial is functools._initial_missing, 0, True)
anyd, dfl = mock.ANY, mock.DEFAULT
ask("mock", lambda _: anyd is mock.ANY and dfl is mock.DEFAULT, 0, True)
kwo = dataclasses.KW_ONLY
ask("KW_ONLY", lambda _: kwo is dataclasses.KW_ONLY, 0, True)
tok = contextvars.Token.MISSING
ask("Token.MISSING", lambda _: tok is contextvars.Token.MISSING, 0, True)
nothing = attrs.NOTHING
ask("attrs", lambda _: nothing is attrs.NOTHING, 0, True)


@attrs.define
class A:
    x: int
    y: list = attrs.field(factory=list)


ask("attrs define", A, 1, A(1), lambda o: type(o) is A)


@attrs.frozen
class AF:
    x: int


ask("attrs frozen", AF, 1, AF(1), lambda o: type(o) is AF)
undef = pydantic_core.PydanticUndefined
ask("pydantic undefined", lambda _: undef is pydantic_core.PydanticUndefined, 0, True)


class M(pydantic.BaseModel):
    x: int
    y: list[int] = []


ask("pydantic", lambda x: M(x=x), 1, M(x=1), lambda o: type(o) is M)


@pydantic.validate_call(validate_return=True)
def validated(x: int) -> M:
    return {"x": x}


ask("pydantic's calls", validated, "1", M(x=1), lambda o: type(o) is M)
ask("random not copied", lambda _: rnd.__self__ is random._inst, 0, True)
ask("environ", lambda _: environ is __import__("os").environ, 0, True)

# --- functools and typing
UserId = NewType("UserId", int)
Deep = NewType("Deep", UserId)
ask("NewType", lambda x: [UserId(x), Deep.__supertype__ is UserId, UserId.__name__], 1, [1, True, "UserId"])
ask("NewType mapped", UserId, 1, 1)
ask("NewType item", lambda t: t is UserId, UserId, True)
ask("NewType back", lambda _: UserId, 0, None, lambda o: o is UserId)
CALLS = []


@functools.cache
def fib(n):
    CALLS.append(n)
    return n if n < 2 else fib(n - 1) + fib(n - 2)


ask("cache recursive", lambda n: fib(n), 30, 832040)
ask("cache mapped", fib, 30, 832040)
ask("cache kept", lambda n: (fib(n), fib(n), len(CALLS) == len(set(CALLS)))[2], 31, True)


class Model:
    loaded = []

    def __init__(self, x):
        self.x = x

    @classmethod
    def get(cls):
        if not cls.loaded:
            cls.loaded.append(object())
        return id(cls.loaded[0])


def loaded(models):
    before = Model.get()
    return [before == Model.get(), Model(1), len(Model.loaded)]


ask("a class's cache is kept", lambda _: [loaded([Model(1)])[2], Model(1)], 0, None, lambda o: o[0] == 1)
SEEN = []


class Counted:
    count = 0

    def __init__(self):
        type(self).count += 1


def counted(item):
    Counted()
    return item, Counted.count


for number in (1, 2, 3):
    ask(
        f"items do not reset a class {number}",
        counted,
        (Counted,),
        None,
        lambda o: SEEN.append(o[1]) or [*range(1, o[1] + 1)] == SEEN,
    )


@functools.lru_cache(maxsize=2, typed=True)
def two(x, *, y=1):
    "doc"
    return x + y


two.extra = 5
ask(
    "lru params",
    lambda x: [two(x), two.cache_parameters(), two.__doc__, two.__name__, two.extra, two.cache_info().hits],
    1,
    [2, {"maxsize": 2, "typed": True}, "doc", "two", 5, 0],
)
csq = functools.lru_cache(math.sqrt)
ask("lru of builtin", lambda x: csq(x), 4, 2.0)
clen = functools.lru_cache(functools.partial(max, 3))
ask("lru of partial", clen, 4, 4)


class HasCache:
    def __init__(self, x):
        self.x = x

    @functools.lru_cache
    def m(self):
        return self.x

    @functools.cached_property
    def cp(self):
        return self.x + 1

    @staticmethod
    @functools.cache
    def st(x):
        return x + 2

    @functools.singledispatchmethod
    def sd(self, a):
        return "o"

    @sd.register
    def _(self, a: int):
        return "i"

    pm = functools.partialmethod(lambda self, y: self.x + y, 10)

    @functools.singledispatchmethod
    @classmethod
    def sdc(cls, a):
        return "oc"

    @functools.total_ordering
    class TO:
        def __init__(self, x):
            self.x = x

        def __lt__(self, o):
            return self.x < o.x

        def __eq__(self, o):
            return self.x == o.x


ask(
    "methods cached",
    lambda x: (lambda h: [h.m(), h.m(), h.cp, h.cp, h.st(x), h.sd(1), h.sd(""), h.pm(), h.sdc(3), h.TO(1) >= h.TO(0)])(
        HasCache(x)
    ),
    1,
    [1, 1, 2, 2, 3, "i", "o", 11, "oc", True],
)


@functools.singledispatch
def show(x):
    return "object"


@show.register
def _(x: int):
    return "int" + show("")


@show.register(list)
def _(x):
    return [show(y) for y in x]


ask("singledispatch", lambda x: show(x), [1, ""], ["intobject", "object"])
ask("singledispatch mapped", show, [1, ""], ["intobject", "object"])
show([1])
ask("singledispatch used", show, [1, ""], ["intobject", "object"])


class AbcS(abc.ABC):
    pass


@show.register
def _(x: AbcS):
    return "abc"


class AbcC(AbcS):
    pass


show(AbcC())
ask("singledispatch abc", show, AbcC(), "abc")
par = functools.partial(lambda a, b, *, c: [a, b, c], 1, c=3)
ask("partial", par, 2, [1, 2, 3])


@functools.wraps(show)
def wrapped(*a):
    return show(*a)


ask("wraps", wrapped, 1, "intobject")
PS = ParamSpec("PS")
TT = TypeVarTuple("TT")
TB = TypeVar("TB", bound="P")


def typed(f: typing.Callable[PS, T], *a: PS.args, **k: PS.kwargs) -> T:
    return f(*a, **k)


ask(
    "ParamSpec",
    lambda x: [typed(abs, x), PS.__name__, TT.__name__, TB.__bound__ is not None],
    -1,
    [1, "PS", "TT", True],
)
ask("ParamSpec is", lambda x: x[0] is PS and x[1] is TT and x[2] is T, [PS, TT, T], True)


class GP(Generic[PS, T]):
    pass


class GT(Generic[typing.Unpack[TT]]):
    pass


ask("generic of them", lambda _: [GP.__parameters__ == (PS, T), GT.__parameters__ == (TT,)], 0, [True, True])
ask("hints", lambda _: typing.get_type_hints(typed)["return"] is T, 0, True)


# --- enums
class E(enum.Enum):
    A = 1
    B = 2
    C = 1

    def m(self):
        return self.name


ask(
    "enum",
    lambda e: [e is E.A, E.C is E.A, E(2), E.B.m(), E["C"] is E.A, list(E.__members__)],
    E.A,
    None,
    lambda o: o[0] and o[1] and o[2] is E.B and o[3] == "B" and o[4] and o[5] == ["A", "B", "C"],
)


class Fl(enum.Flag):
    R = enum.auto()
    W = enum.auto()
    RW = R | W


ask(
    "flag",
    lambda f: [f, Fl.R | Fl.W is Fl.RW, Fl.R in Fl.RW, Fl.R | Fl.W],
    Fl.R | Fl.W,
    None,
    lambda o: o[0] is Fl.RW and o[2] and o[3] is Fl.RW,
)


class IF(enum.IntFlag):
    A = 1
    B = 2


ask("intflag", lambda f: f | IF.B, IF.A, None, lambda o: o == 3 and type(o) is IF)


class Pl(enum.Enum):
    M = (3.0, 2.0)
    E = (5.0, 6.0)

    def __init__(self, mass, radius):
        self.mass = mass
        self.radius = radius

    @property
    def g(self):
        return self.mass / self.radius


ask("planet", lambda p: [p.mass, Pl.M.g, p], Pl.E, [5.0, 1.5, Pl.E], lambda o: o[2] is Pl.E)


class Co(bytes, enum.Enum):
    def __new__(cls, value, label):
        o = bytes.__new__(cls, [value])
        o._value_ = value
        o.label = label
        return o

    A = (1, "one")
    B = (2, "two")


ask(
    "enum new",
    lambda c: [c.label, c, Co(2).label],
    Co.A,
    None,
    lambda o: o[0] == "one" and o[1] is Co.A and o[2] == "two",
)


class SE(enum.StrEnum):
    A = enum.auto()
    B = "x"

    @classmethod
    def _missing_(cls, v):
        return cls.A


ask("strenum", lambda s: [s, SE("zz"), f"{SE.B}"], SE.A, ["a", "a", "x"], lambda o: o[0] is SE.A and o[1] is SE.A)


@enum.unique
class Ord(enum.IntEnum):
    L = 1
    H = 2


ask("intenum", lambda s: [s < Ord.H, s], Ord.L, [True, Ord.L], lambda o: o[1] is Ord.L)


class Fn(enum.Enum):
    SQ = enum.member(lambda x: x * x)

    def __call__(self, x):
        return self.value(x)

    nm = enum.nonmember(7)


ask("enum callable", lambda x: [Fn.SQ(x), Fn.nm], 3, [9, 7])


class DE(P, enum.Enum):
    A = 1


ask("enum dataclass mixin", lambda d: [d.x, d], DE.A, None, lambda o: o[0] == 1 and o[1] is DE.A)
Fu = enum.Enum("Fu", "X Y")
ask("enum functional", lambda d: d, Fu.X, None, lambda o: o is Fu.X)


class Au(enum.Enum):
    @staticmethod
    def _generate_next_value_(name, start, count, last):
        return name.lower()

    AA = enum.auto()


ask("enum auto", lambda d: [d.value, d], Au.AA, None, lambda o: o == ["aa", Au.AA])


# --- tuples, dicts, protocols
class N(NamedTuple):
    a: int
    b: str = "x"

    def both(self):
        return [self.a, self.b]


ask("NamedTuple", lambda x: [N(x), N(x).both()], 1, [N(1), [1, "x"]], lambda o: type(o[0]) is N)


class NG(NamedTuple, Generic[T]):
    v: T


ask("NamedTuple generic", lambda x: NG(x), 1, None, lambda o: type(o) is NG and o.v == 1)
nt = collections.namedtuple("nt", "a b", defaults=[2])
ask("namedtuple", lambda x: nt(x), 1, nt(1), lambda o: type(o) is nt)


class TD(TypedDict, total=False):
    a: int


class TD2(TD):
    b: typing.Required[str]


ask(
    "TypedDict",
    lambda x: [
        TD2(a=x, b=""),
        sorted(TD2.__required_keys__),
        sorted(TD2.__optional_keys__),
        sorted(TD2.__annotations__),
    ],
    1,
    [{"a": 1, "b": ""}, ["b"], ["a"], ["a", "b"]],
)


@typing.runtime_checkable
class Pr(Protocol):
    x: int

    def m(self) -> int: ...


class Impl:
    x = 1

    def m(self):
        return 1


class Impl2(Pr):
    x = 2

    def m(self):
        return 2


ask(
    "Protocol",
    lambda _: [isinstance(Impl(), Pr), isinstance(3, Pr), Impl2().m(), Pr in Impl2.__mro__],
    0,
    [True, False, 2, True],
)


class PG(Protocol[T]):
    def m(self) -> T: ...


ask("Protocol generic", lambda _: [PG.__parameters__ == (T,), PG[int] is not None], 0, [True, True])


class AB(abc.ABC):
    @abc.abstractmethod
    def m(self): ...
    @property
    @abc.abstractmethod
    def p(self): ...


class AC(AB):
    def m(self):
        return 1

    @property
    def p(self):
        return 2


@AB.register
class AR:
    pass


def tryab(_):
    try:
        AB()
    except TypeError:
        return [AC().m(), AC().p, isinstance(AR(), AB), issubclass(AC, AB)]


ask("ABC", tryab, 0, [1, 2, True, True])


class Meta(type):
    made = []

    def __new__(m, name, bases, ns, tag=None):
        c = super().__new__(m, name, bases, ns)
        c.tag = tag
        return c

    def __init__(c, name, bases, ns, tag=None):
        super().__init__(name, bases, ns)

    def __call__(c, *a):
        o = super().__call__(*a)
        o.called = True
        return o

    def __len__(c):
        return 7

    @property
    def prop(c):
        return c.tag


class WM(metaclass=Meta, tag="t"):
    def __init__(self, x):
        self.x = x


ask(
    "metaclass",
    lambda x: [WM(x).called, len(WM), WM.prop, WM(x)],
    1,
    None,
    lambda o: o[:3] == [True, 7, "t"] and type(o[3]) is WM,
)


class MetaP(type):
    @classmethod
    def __prepare__(m, name, bases, **k):
        return collections.OrderedDict(z=1)

    def __new__(m, name, bases, ns, **k):
        return super().__new__(m, name, bases, dict(ns))


class WP(metaclass=MetaP):
    y = 2


ask("prepare", lambda x: [WP.z, WP.y], 1, [1, 2])


class Sing(type):
    _inst = {}

    def __call__(cls, *a):
        if cls not in cls._inst:
            cls._inst[cls] = super().__call__(*a)
        return cls._inst[cls]


class OneOf(metaclass=Sing):
    pass


ask("singleton metaclass", lambda _: OneOf() is OneOf(), 0, True)


class Strict(abc.ABCMeta):
    """Whose ways of making a class are its own, and which lets nobody change one."""

    made = []

    @classmethod
    def __prepare__(cls, name, bases, *, key):
        return {}

    def __new__(cls, name, bases, space, *, key):
        cls.made.append(name)
        return super().__new__(cls, name, bases, space)

    def __init__(cls, name, bases, space, *, key):
        super().__init__(name, bases, space)

    def __setattr__(cls, name, value):
        if name[0] != "_":
            raise AttributeError("constant")
        super().__setattr__(name, value)


class Con(metaclass=Strict, key=1):
    X = 1

    @abc.abstractmethod
    def f(self): ...


class Con2(Con, key=2):
    def f(self):
        return super().X


ask(
    "strict metaclass",
    lambda _: [Con2().f(), Strict.made, sorted(Con.__abstractmethods__)],
    0,
    [1, ["Con", "Con2"], ["f"]],
)


class Outside:
    @dataclass
    class Inside:
        x: int


ask("qualified name", lambda x: repr(Outside.Inside(x)), 1, "Outside.Inside(x=1)")


class Kept:
    @classmethod
    @functools.cache
    def load(cls, x):
        return cls.__name__, x


ask("class's cached method", lambda x: [Kept.load(x), Kept.load(x) is Kept.load(x)], 1, [("Kept", 1), True])


class Desc:
    def __set_name__(self, o, n):
        self.n = "_" + n

    def __get__(self, i, o):
        return self if i is None else getattr(i, self.n, None)

    def __set__(self, i, v):
        setattr(i, self.n, v * 2)


class WD:
    d = Desc()

    def __init__(self, x):
        self.d = x

    @property
    def p(self):
        return self._p

    @p.setter
    def p(self, v):
        self._p = v

    @classmethod
    def cm(cls):
        return cls.__name__

    @staticmethod
    def sm(x):
        return x

    def __class_getitem__(cls, k):
        return k

    def __getattr__(self, n):
        if n.startswith("__"):
            raise AttributeError(n)
        return "got " + n


def wd(x):
    w = WD(x)
    w.p = 4
    return [w.d, w.p, WD.cm(), w.sm(3), WD[8], w.foo]


ask("descriptors", wd, 2, [4, 4, "WD", 3, 8, "got foo"])


class Reg:
    reg = {}

    def __init_subclass__(cls, key, **k):
        super().__init_subclass__(**k)
        cls.reg[key] = cls
        cls.key = key


class RA(Reg, key="a"):
    pass


class RB(RA, key="b"):
    pass


ask(
    "init_subclass keyword",
    lambda _: [Reg.reg["a"] is RA, RB.key, RA.key, sorted(Reg.reg)],
    0,
    [True, "b", "a", ["a", "b"]],
)


class Base3:
    def __init_subclass__(cls, key):
        cls.key = key


class R3(Base3, key="k"):
    pass


ask("init_subclass required", lambda _: [R3.key, R3().key, type(R3()) is R3], 0, ["k", "k", True])


class Reg4:
    n = []

    def __init_subclass__(cls, **k):
        Reg4.n.append(cls.__name__)


class R4(Reg4):
    pass


ask("init_subclass once", lambda _: [R4.__name__, Reg4.n], 0, ["R4", ["R4"]])


class Reg2:
    reg = []

    def __init_subclass__(cls):
        cls.reg.append(cls.__name__)


class R2A(Reg2):
    pass


ask("init_subclass count", lambda _: Reg2.reg, 0, ["R2A"])
cv = contextvars.ContextVar("cv", default=5)
cv2 = contextvars.ContextVar("cv2")


def cvs(x):
    t = cv.set(x)
    v = cv.get()
    cv.reset(t)
    try:
        cv2.get()
    except LookupError:
        return [v, cv.get()]


ask("contextvar", cvs, 1, [1, 5])


class MyErr(Exception):
    def __init__(self, a, *, code):
        super().__init__(a)
        self.code = code


class Err2(Exception):
    __slots__ = ("z",)


ask("class kinds exc", lambda x: [Err2("a")], 1, None, lambda o: type(o[0]) is Err2)


class ItS(str):
    __slots__ = ()


ask("str subclass slots", ItS, "a", "a", lambda o: type(o) is ItS)


class ItI(int):
    pass


ask("int subclass", ItI, 3, 3, lambda o: type(o) is ItI)


class DictSub(dict):
    def __missing__(self, k):
        return k


ask("dict subclass", lambda x: [DictSub(a=1)[x], DictSub(a=1)], "q", ["q", {"a": 1}], lambda o: type(o[1]) is DictSub)
dd = collections.defaultdict(list)
ask("defaultdict", lambda x: dd[x], "q", [])


class GenF:
    def __iter__(self):
        yield 1


ask("gen method", lambda x: list(GenF()), "q", [1])


class Mutable:
    limit = 1


def mutated(x):
    Mutable.limit = 9
    return Mutable()


ask("home class kept", mutated, 0, None, lambda o: type(o) is Mutable and Mutable.limit == 1 and o.limit == 1)
rec = re.compile("a+")
ask("pattern", lambda x: rec.match(x).group(), "aab", "aa")
log = logging.getLogger("kinds")
ask("logger", lambda x: log.name, 0, "kinds")
ns = types.SimpleNamespace(a=1)
ask("namespace", lambda x: ns.a, 0, 1)
wr = weakref.WeakValueDictionary()
wk = weakref.WeakKeyDictionary()
ws = weakref.WeakSet()
ask("weak containers", lambda x: [len(wr), len(wk), len(ws)], 0, [0, 0, 0])
ig = operator.itemgetter(1)
ask("itemgetter", ig, [1, 2], 2)
mc = operator.methodcaller("upper")
ask("methodcaller", mc, "a", "A")
ask("bound method slots", S3(5).get.__func__ and (lambda x: S3(x).get()), 5, 5)
ask("method mapped", S3(5).get.__self__ and functools.partial(S3.get), S3(4), 4)
ask("classmethod mapped", WD.cm and (lambda _: WD.cm()), 0, "WD")
tloc = threading.local()


class Itr:
    @typing.overload
    def f(self, x: int) -> int: ...
    @typing.overload
    def f(self, x: str) -> str: ...
    def f(self, x):
        return x

    @typing.final
    def g(self):
        return 1


ask("overload", lambda x: Itr().f(x), 1, 1)
Alias = dict[str, T]
ask("alias", lambda x: Alias[int] == dict[str, int], 0, True)
Lit = typing.Literal["a"]
Un = typing.Union[int, P]
Op = P | None
ask(
    "typing forms",
    lambda x: [Lit.__args__, Un.__args__[1] is P, Op.__args__[0] is P, typing.Any is typing.Any],
    0,
    [("a",), True, True, True],
)
mp = types.MappingProxyType({"a": 1})
ask("mappingproxy", lambda x: mp["a"], 0, 1)
dk = {"a": 1}.keys()
ask("keys", lambda x: list(dk), 0, ["a"])


class Callable_:
    def __init__(self):
        self.w = 2

    def __call__(self, x):
        return self.w * x


ask("callable object", Callable_(), 3, 6)


class CallS:
    __slots__ = ("w",)

    def __init__(self):
        self.w = 2

    def __call__(self, x):
        return self.w * x


ask("callable slots", CallS(), 3, 6)


def gen_deco(f):
    @functools.wraps(f)
    def inner(*a):
        return f(*a) + inner.off

    inner.off = 1
    return inner


@gen_deco
def deco(x):
    return x


ask("decorated attr", deco, 3, 4)


class CtxM:
    def __enter__(self):
        return 5

    def __exit__(self, *a):
        return False


@contextlib.contextmanager
def ctx():
    yield 6


def usectx(_):
    with CtxM() as a, ctx() as b:
        return [a, b]


ask("context managers", usectx, 0, [5, 6])


@dataclass(order=True)
class Ordd:
    a: int
    b: "dataclasses.InitVar[int]" = 3
    c: typing.ClassVar[int] = 9
    d: int = field(init=False, default=4, metadata={"u": 1})


ask(
    "dataclass features",
    lambda x: [
        dataclasses.asdict(Ordd(x)),
        Ordd(1) < Ordd(2),
        dataclasses.replace(Ordd(x), a=5, b=1).a,
        fields(Ordd)[1].metadata["u"],
    ],
    1,
    [{"a": 1, "d": 4} if True else 0, True, 5, 1],
)
ask("method of class", HasCache(3).m if False else (lambda x: x), 1, 1)


# --- what annotations name, written as `from __future__ import annotations` leaves them
@dataclass
class Leaf:
    owner: "Tree | None" = None


@dataclass
class Tree:
    leaf: "Leaf"
    many: "dict[str, list[Leaf]]" = field(default_factory=dict)
    kind: "typing.Literal['Leaf', 'threading']" = "Leaf"
    quoted: "list['Tree'] | None" = None
    partly: list["Leaf"] = field(default_factory=list)
    maybe: typing.Union["Leaf", None] = None
    alias: "Leaves" = ()
    count: "Count" = 0
    rest: "typing.Annotated[int, 'a note']" = 0


class Bush(Tree):
    more: "Tree"


class Locked:
    lock = threading.Lock()


@dataclass
class Partly:
    lock: "Locked | None" = None
    leaf: "Leaf | None" = None


class LeafDict(TypedDict):
    leaf: "Leaf"
    typed: "typing.NotRequired[LeafDict]"


class LeafTuple(NamedTuple):
    leaf: "Leaf"
    tree: list["Tree"]


@attrs.define
class LeafAttrs:
    leaf: "Leaf"
    own: "LeafAttrs | None" = None


class LeafEnum(enum.Enum):
    ONE = 1
    leaf: "Leaf"


Leaves = tuple["Leaf", ...]
Count = NewType("Count", int)


def annotated(leaf: "Leaf", trees: "list[Tree] | None" = None, dicts: list["LeafDict"] = ()) -> "LeafTuple":
    return typing.get_type_hints(annotated)


def hints_of(cls):
    return typing.get_type_hints(cls)


Leaf.hints = classmethod(hints_of)
for each in (Leaf, Tree, Bush, LeafDict, LeafTuple, LeafAttrs, LeafEnum):
    ask(f"annotations of {each.__name__}", hints_of, each, hints_of(each))
ask("annotations of a function", annotated, Leaf(), annotated(Leaf()))


@dataclass
class Least:
    number: int


LEAST, MOST = Least(3), (7, "at most")


def bounded(x: "typing.Annotated[int, LEAST, MOST]") -> "int":
    return typing.get_type_hints(bounded, include_extras=True)["x"].__metadata__


ask("annotations that name objects", bounded, 1, (LEAST, MOST))
ask("annotations by inspect", lambda c: inspect.get_annotations(c, eval_str=True), Leaf, {"owner": Tree | None})
ask("annotations for attrs", lambda c: attrs.fields(attrs.resolve_types(c)).leaf.type, LeafAttrs, Leaf)
ask("annotations of an item", lambda leaf: leaf.hints(), Leaf(), {"owner": Tree | None})
ask("annotations for pydantic", lambda v: pydantic.TypeAdapter(Tree).validate_python(v), {"leaf": {}}, Tree(Leaf()))
ask("annotations of what cannot travel", lambda _: Partly().leaf, 0, check=lambda o: o is None)
ask("no annotations", lambda name: hasattr(sys.modules["__main__"], name), "main", False)


# --- modules that lie in no file, or in none any more
SOURCE = "BY = 3\nclass P:\n    def __init__(self, x):\n        self.x = x\ndef times(x):\n    return BY * x\n"
SOURCE += "def double(x):\n    return 2 * P(times(x)).x // BY\n"
sys.modules["made_here"] = made = types.ModuleType("made_here")
exec(SOURCE, vars(made))
with tempfile.TemporaryDirectory() as folder:
    sys.path.insert(0, folder)
    for name in ("gone_here.py", "gone_package/__init__.py", "gone_package/deep.py"):
        (pathlib.Path(folder) / name).parent.mkdir(exist_ok=True)
        (pathlib.Path(folder) / name).write_text(SOURCE)
    import gone_here
    import gone_package.deep

    del sys.path[0]


def imports_alone(x):
    def within(x):
        import gone_here
        import made_here

        return gone_here.double(made_here.double(x))

    return within(x)


ask("import of modules without files", imports_alone, 2, 8)
for each in (made, gone_here, gone_package.deep):
    name = each.__name__
    ask(f"{name}'s function", each.double, 2, 4)
    ask(f"{name}'s item", lambda item: item.x, each.P(3), 3)
    ask(f"{name}'s class", lambda x, held=each.P: held(x).x, 3, 3)
    ask(f"{name} itself", lambda x, held=each: held.double(x), 2, 4)
    ask(f"{name}'s own back", each.P, 3, check=lambda got, kind=each.P: type(got) is kind and got.x == 3)


def complaint(got, want, check):
    """What is wrong with an answer; None if it is right."""
    if isinstance(got, BaseException):
        return f"{type(got).__name__}: {got}"
    if check is not None and not check(got):
        return f"{got!r} is not as it should be"
    if (want is not None or check is None) and got != want:
        return f"{got!r} is not {want!r}"
    return None


def main() -> None:
    """Every row on a worker."""
    from starburst_common import StarburstExecutor

    with StarburstExecutor(1, backend="local") as executor:
        futures = [executor.submit(fn, arg) for _, fn, arg, *_ in ROWS]
        answers = [future.exception() or future.result() for future in futures]
    for (name, _, _, want, check), got in zip(ROWS, answers, strict=True):
        if (why := complaint(got, want, check)) is not None:
            print(f"{name}: {why}")


if __name__ == "__main__":
    main()
