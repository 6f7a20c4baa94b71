"""LeRobot data sets, format v3.0: export from episodes, and back."""
