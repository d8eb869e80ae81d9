# Set a parameter of the demo, of which there is a token in $TOKEN. Types come by reflection.
buf curl --protocol grpc --http2-prior-knowledge -H "Authorization: Bearer $TOKEN" \
  -d '{"path": "shop/retry/max_attempts", "value": 2, "reason": "calm down"}' \
  http://127.0.0.1:50090/ninelives_control.v1.ControlService/SetParameter
