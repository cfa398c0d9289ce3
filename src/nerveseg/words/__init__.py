"""Words in: labels, their synonyms, the background, and the sentences that words are set into. Light: no torch."""

from nerveseg.words.prompts import TEMPLATES, fill, template_set
from nerveseg.words.vocabulary import BACKGROUND_WORDS, Background, Label, Vocabulary, need_background

__all__ = ["BACKGROUND_WORDS", "TEMPLATES", "Background", "Label", "Vocabulary", "fill", "need_background", "template_set"]
