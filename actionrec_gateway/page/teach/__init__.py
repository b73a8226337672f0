"""Learning from the page: the videos that labels are marked on, the run that learns, and its archive served."""
