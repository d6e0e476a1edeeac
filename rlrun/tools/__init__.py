"""Programs over whole folders of runs, beside training: what stands above the reports."""
