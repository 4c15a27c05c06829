"""Pages with instruments: the post as a page one can touch, and the same instruments for runs."""
