"""The human study of Fel et al. 2023, section 4.1, as a kit: stimuli, page, collection, statistics.

`making` builds a folder of trials, `taking` shows them to people and collects their answers, `analysing` says what the
answers show. What they share lies here: what a study's YAML may say, the trials, and the form of an answer.
"""
