-- The floor of landing: delivered Parquet to typed, zstd-packed Parquet, one partition per day received.
-- No file is counted twice, no refused row is kept with its reason, no manifest is written, no day is
-- replaced atomically: what landing costs beyond this is what those cost.
set timezone = 'UTC';
set preserve_insertion_order = false;
set temp_directory = $spill;

copy (
    select
        order_id,
        regexp_replace(trim(customer_id), '\.0+$$', '') as customer_id,
        ordered_at,
        cast(ordered_at at time zone 'UTC' at time zone $time_zone as date) as order_date,
        cast(hour(ordered_at at time zone 'UTC' at time zone $time_zone) as tinyint) as order_hour,
        coalesce(status, 'completed') as status,
        amount,
        coalesce(refunded_amount, 0)::decimal(18, 2) as refunded_amount,
        coalesce(discount_amount, 0)::decimal(18, 2) as discount_amount,
        coalesce(coupon_amount, 0)::decimal(18, 2) as coupon_amount,
        $currency as currency,
        channel,
        false as is_adjustment,
        updated_at,
        'orders' as source,
        parse_filename(filename) as source_file,
        file_row_number + 1 as source_line,
        strptime(regexp_extract(filename, '(\d{8})\.parquet$$', 1), '%Y%m%d')::date as received_date
    from read_parquet($data || '/orders/orders_' || $days || '.parquet', filename = true, file_row_number = true)
    where order_id is not null and customer_id is not null and ordered_at is not null and amount is not null
) to $orders (format parquet, compression zstd, partition_by (received_date));

copy (
    select
        interaction_id,
        regexp_replace(trim(customer_id), '\.0+$$', '') as customer_id,
        occurred_at,
        cast(occurred_at at time zone 'UTC' at time zone $time_zone as date) as interaction_date,
        cast(hour(occurred_at at time zone 'UTC' at time zone $time_zone) as tinyint) as interaction_hour,
        kind,
        channel,
        campaign_id,
        null::varchar as product_id,
        referred_customer_id,
        amount,
        'interactions' as source,
        parse_filename(filename) as source_file,
        file_row_number + 1 as source_line,
        strptime(regexp_extract(filename, '(\d{8})\.parquet$$', 1), '%Y%m%d')::date as received_date
    from read_parquet(
        $data || '/interactions/interactions_' || $days || '.parquet', filename = true, file_row_number = true
    )
    where interaction_id is not null and customer_id is not null and occurred_at is not null and kind is not null
) to $interactions (format parquet, compression zstd, partition_by (received_date));

copy (
    select
        customer_id,
        registered_at,
        cast(registered_at at time zone 'UTC' at time zone $time_zone as date) as registered_date,
        region,
        source_channel,
        industry,
        customer_type,
        null::varchar as attributes,
        'customers' as source,
        parse_filename(filename) as source_file,
        file_row_number + 1 as source_line,
        strptime(regexp_extract(filename, '(\d{8})\.parquet$$', 1), '%Y%m%d')::date as received_date
    from read_parquet($data || '/customers/customers_' || $days || '.parquet', filename = true, file_row_number = true)
    where customer_id is not null
) to $customers (format parquet, compression zstd, partition_by (received_date));
