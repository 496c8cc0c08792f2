"""One file per measure of a subject: what a model is like inside, before any dictionary is fitted. Each declares what it
costs."""
