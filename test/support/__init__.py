"""What several packages' tests share; on sys.path by the top-level conftest.py."""
