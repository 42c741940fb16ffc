-- The licence meter's hours by any engine: an integer step function, integrated over each hour.
-- A sample holds until the next one of its series, at most for the staleness limit, never past a marker.
-- Of different values at one instant the lower wins and a number wins over NaN, as `Lake.scan` decides it.
-- A value is stored as it is, or as an integer (the sum of two) and its decimal places.
WITH valued AS (
    SELECT series_id, timestamp_ms, tenant,
        COALESCE(value, CAST(reference + delta AS DOUBLE) / POWER(10, scale)) AS value
    FROM samples
),
chosen AS (
    SELECT samples.series_id, timestamp_ms, MIN(value) AS value  -- NaN is the largest in Spark
    FROM valued AS samples JOIN (
        SELECT DISTINCT series_id FROM series
        WHERE name = 'byoc_component_allocated_vcpu' AND organization = 'acme'
    ) AS metered ON samples.series_id = metered.series_id
    WHERE tenant LIKE 'acme/%'
    GROUP BY samples.series_id, timestamp_ms
),
stretches AS (
    SELECT series_id, timestamp_ms AS start_ms, value,
        LEAST(
            timestamp_ms + {limit_ms},
            COALESCE(LEAD(timestamp_ms) OVER (PARTITION BY series_id ORDER BY timestamp_ms), {forever_ms})
        ) AS end_ms
    FROM chosen
),
levels AS (
    SELECT series_id, start_ms, end_ms,
        CAST(ROUND(CAST(CAST(value AS STRING) AS DECIMAL(30, 12)) * 1000) AS BIGINT) AS milli_vcpu
    FROM stretches WHERE NOT isnan(value) AND value >= 0
),
hours AS (
    SELECT EXPLODE(SEQUENCE({first_ms}, {last_ms}, 3600000)) AS hour_ms
)
SELECT LOWER(HEX(series_id)) AS series_id, hour_ms,
    SUM(milli_vcpu * (LEAST(end_ms, hour_ms + 3600000) - GREATEST(start_ms, hour_ms))) AS milli_vcpu_ms
FROM levels JOIN hours ON start_ms < hour_ms + 3600000 AND end_ms > hour_ms
GROUP BY series_id, hour_ms
ORDER BY series_id, hour_ms
