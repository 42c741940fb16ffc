"""Run by PySpark's own Python: an order {jars, views, sql} on standard input; prints the rows as JSON."""

import json
import sys

from pyspark.sql import SparkSession  # type: ignore[import-not-found]

order = json.load(sys.stdin)
spark = (
    SparkSession.builder.master("local[1]")
    .config("spark.jars", ",".join(order["jars"]))
    .config("spark.ui.enabled", "false")
    .config("spark.sql.shuffle.partitions", "1")
    .config("spark.driver.bindAddress", "127.0.0.1")
    .getOrCreate()
)
for name, metadata in order["views"].items():
    spark.read.format("iceberg").load(metadata).createOrReplaceTempView(name)
sys.stdout.write(json.dumps([row.asDict() for row in spark.sql(order["sql"]).collect()]) + "\n")
