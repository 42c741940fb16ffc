"""Run by PySpark's own Python: an order on standard input, {jars, views, sql}; the rows as JSON on the last line."""

import json
import sys

from pyspark.sql import SparkSession

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
print(json.dumps([row.asDict() for row in spark.sql(order["sql"]).collect()]))
