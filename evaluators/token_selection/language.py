"""The part of Python and torch in which token-selection policies are written."""

from evaluators.problem import Language

TORCH = """
abs acos all allclose amax amin any arange argmax argmin argsort as_tensor atan2 bernoulli bfloat16 bincount
bitwise_and bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor bmm bool bucketize cat
cdist ceil chunk clamp clone concat cos cosh count_nonzero cummax cummin cumprod cumsum diag diff div
dot einsum eq equal erf exp exp2 expm1 eye finfo flatten flip float float16 float32 floor
floor_divide fmod full full_like gather ge Generator greater gt half histc iinfo index_select int16 int32
int64 int8 inf isfinite isin isnan kthvalue le lerp less linspace log log10 log1p log2 logaddexp logcumsumexp
logical_and logical_not logical_or logical_xor logit logsumexp long lt masked_select matmul max maximum mean
median meshgrid min minimum mm movedim mul multinomial nan_to_num narrow ne norm normal numel ones ones_like
outer permute pi pow prod quantile rand rand_like randint randn randn_like randperm reciprocal remainder
repeat_interleave reshape roll round rsqrt scatter scatter_add searchsorted select sigmoid sign sin sinh
softmax sort split sqrt square squeeze stack std sub sum swapaxes t take take_along_dim tan tanh tensor
Tensor tile topk transpose triu tril trunc uint8 unbind unfold unique unique_consecutive unsqueeze var vstack
hstack where zeros zeros_like std_mean var_mean
"""

MATH = """
acos asin atan atan2 ceil cos cosh e erf erfc exp exp2 expm1 fabs floor fmod gcd hypot inf isclose isfinite
isinf isnan isqrt ldexp lgamma log log10 log1p log2 pi pow prod sin sinh sqrt tan tanh tau trunc
"""

# Attributes of tensors, of the cache and of Index objects. Nothing here reaches memory, files, code or other
# threads.
TENSOR = """
T abs acos add all amax amin any argmax argmin argsort bernoulli bfloat16 bincount bitwise_and bitwise_or
bitwise_xor bmm bool ceil chunk clamp clamp_max clamp_min clone contiguous cos count_nonzero cummax cummin
cumprod cumsum detach diag diff div dot double dtype eps eq erf exp exp2 expand expand_as expm1 fill_
flatten flip float floor floor_divide fmod gather ge gt half index_add index_fill index_select int isfinite
isinf isin isnan item kthvalue le lerp log log10 log1p log2 logaddexp logcumsumexp logical_and logical_not
logical_or logical_xor logsumexp long lt manual_seed masked_fill masked_select matmul max maximum mean median
min minimum mm movedim mul multinomial mT nan_to_num narrow ndim ne neg new_full new_ones new_tensor new_zeros
nonzero norm numel outer permute pow prod quantile reciprocal remainder repeat repeat_interleave reshape
reshape_as roll round rsqrt scatter scatter_add scatter_reduce searchsorted select shape short sigmoid sign
sin size softmax sort split sqrt square squeeze std sub sum swapaxes t take take_along_dim tan tanh tile to
tolist topk transpose tril triu trunc type_as unbind unfold unflatten unique unsqueeze var view view_as where
indices scatter_ scatter_add_ index_fill_ masked_fill_ clamp_ add_ mul_ sub_ div_ copy_ zero_
"""

CACHE = """
append gather read length row_bytes kv_heads heads head_size layer layers spent affordable keys values
key_channels scores
"""

CONTAINERS = "extend insert items get pop index count reverse remove clear update copy setdefault"

BUILTINS = """
ArithmeticError AssertionError IndexError KeyError TypeError ValueError
ZeroDivisionError abs all any bool dict divmod enumerate filter float frozenset int isinstance len list map
max min object pow range reversed round set slice sorted staticmethod str sum tuple zip
"""

LANGUAGE = Language(
    modules={"torch": frozenset(TORCH.split()), "math": frozenset(MATH.split())},
    attributes=frozenset((TENSOR + CACHE + CONTAINERS).split()),
    builtins=frozenset(BUILTINS.split()),
    provided=frozenset({"Index"}),
)
