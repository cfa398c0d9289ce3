"""The harness: runs over data sets, reports, ablations, tuning, pseudo-masks."""
