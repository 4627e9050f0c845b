"""The part of Python and numpy in which candidates that are a function of a case are written."""

from evaluators.problem import Language

NUMPY = """
abs absolute add all allclose amax amin any append arange arccos arcsin arctan arctan2 argmax argmin
argpartition argsort argwhere array array_equal asarray atleast_1d atleast_2d average bincount bitwise_and
bitwise_or bitwise_xor bool_ broadcast_to ceil clip column_stack concatenate copy corrcoef cos cosh
count_nonzero cov cross cumprod cumsum deg2rad degrees delete diag diff digitize divide divmod dot e einsum
empty empty_like equal exp exp2 expand_dims expm1 eye fill_diagonal flatnonzero flip float32 float64 floor
floor_divide full full_like gradient greater greater_equal heaviside histogram hstack hypot identity inf
inner insert int32 int64 int8 interp intersect1d invert isclose isfinite isin isinf isnan ix_ kron less
less_equal lexsort linspace log log10 log1p log2 logaddexp logical_and logical_not logical_or logical_xor
logspace matmul max maximum mean median meshgrid min minimum mod moveaxis multiply nan nan_to_num nanargmax
nanargmin nanmax nanmean nanmin nansum ndarray negative newaxis nonzero not_equal ones ones_like outer
partition percentile pi polyfit polyval power prod ptp quantile radians ravel reciprocal remainder repeat
reshape roll rot90 round searchsorted setdiff1d sign sin sinh size sort split sqrt square squeeze stack std
subtract sum swapaxes take take_along_axis tan tanh tensordot tile trace transpose tri tril trim_zeros triu
trunc uint8 union1d unique unravel_index var vdot vstack where zeros zeros_like
"""

MATH = """
acos asin atan atan2 ceil comb copysign cos cosh dist e erf erfc exp expm1 fabs factorial floor fmod fsum
gcd hypot inf isclose isfinite isinf isnan isqrt lcm lgamma log log10 log1p log2 nan perm pi pow prod
radians sin sinh sqrt tan tanh tau trunc
"""

ITERTOOLS = """
accumulate chain combinations combinations_with_replacement compress count cycle dropwhile filterfalse
groupby islice pairwise permutations product repeat starmap takewhile zip_longest
"""

# Methods and attributes of arrays, numbers, containers and random generators. Nothing here reaches memory,
# files or code.
ARRAY = """
T all any argmax argmin argpartition argsort astype choose clip copy cumprod cumsum diagonal dot dtype fill
flat flatten item max mean min nbytes ndim nonzero partition prod ravel repeat reshape round searchsorted
shape size sort squeeze std sum swapaxes take tolist trace transpose var view
"""

CONTAINERS = """
add append appendleft clear count difference discard elements extend extendleft get index insert
intersection isdisjoint issubset issuperset items keys maxlen most_common pop popitem popleft remove reverse
rotate setdefault subtract symmetric_difference total union update values bit_length bit_count is_integer
join split startswith endswith upper lower strip replace
"""

RANDOM = """
betavariate choice choices exponential gauss getrandbits integers lognormal multinomial normal normalvariate
permutation permuted poisson randint random randrange sample shuffle standard_normal triangular uniform
"""

BUILTINS = """
ArithmeticError AssertionError IndexError KeyError OverflowError TypeError ValueError ZeroDivisionError abs
all any bin bool dict divmod enumerate filter float frozenset int isinstance iter len list map max min next
object pow range reversed round set slice sorted staticmethod str sum tuple zip
"""


def names(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


LANGUAGE = Language(
    modules={
        "bisect": frozenset(
            ["bisect", "bisect_left", "bisect_right", "insort", "insort_left", "insort_right"]
        ),
        "collections": names("Counter OrderedDict defaultdict deque"),
        "functools": names("cmp_to_key partial reduce"),
        "heapq": frozenset(
            ["heapify", "heappop", "heappush", "heappushpop", "heapreplace", "merge", "nlargest", "nsmallest"]
        ),
        "itertools": names(ITERTOOLS),
        "math": names(MATH),
        "numpy": names(NUMPY),
        "numpy.random": names("default_rng"),
        "random": names("Random"),
    },
    attributes=names(ARRAY + CONTAINERS + RANDOM),
    builtins=names(BUILTINS),
    provided=frozenset(),
)
