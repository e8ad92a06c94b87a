-- A Connect client that sends JSON gets JSON; the bridge names every answer after protobuf.

function envoy_on_response(handle)
  local headers = handle:headers()
  if headers:get("content-type") == "application/proto" then
    headers:replace("content-type", "application/json")
  end
end
