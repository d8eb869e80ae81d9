# Change a parameter of the demo with care, by a token of it in $TOKEN: keep what is, try, lend, and
# put all back as it was.
export NINELIVES_ADDRESS=127.0.0.1:50090 NINELIVES_TOKEN="$TOKEN"
kept=$(ninelives call export_parameters -o json)
ninelives call set_parameter shop/retry/max_attempts 5 --dry-run
ninelives call set_parameter shop/retry/max_attempts 5 --lease 60 --reason "calm down"
ninelives call list_leases
echo "$kept" | ninelives call apply_parameters @- --reason "as it was"
