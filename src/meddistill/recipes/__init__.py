"""Lab records and the pipeline that runs one."""
