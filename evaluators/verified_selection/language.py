"""The language of `token_selection`, with the goal that a policy is given."""

from dataclasses import replace

from evaluators.token_selection import language

LANGUAGE = replace(
    language.LANGUAGE, attributes=language.LANGUAGE.attributes | {"epsilon", "delta", "quantity"}
)
