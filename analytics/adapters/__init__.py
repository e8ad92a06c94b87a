"""What core ports stand for: the feed of records, the runs that live, the writing of Parquet."""
