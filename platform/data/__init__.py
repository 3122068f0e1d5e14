"""Datasets: tables that are uploaded once, kept as Parquet in numbered versions, and described."""
