"""The report: pictures of a case, charts of a group, one self-contained page drawn from an evaluation's files."""
