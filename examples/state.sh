# Read the state of the demo, of which there is a token in $TOKEN.
curl http://127.0.0.1:8090/graphql -H "Authorization: Bearer $TOKEN" \
  -H 'Content-Type: application/json' \
  -d '{"query": "{ stacks { name policies { path state { name value } } } }"}'
