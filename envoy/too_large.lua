-- A REST request that says that it is too large is refused before its body is sent; the buffer would only notice when
-- it is full, and reset the stream of a client that still sends.
-- `most_bytes` stands before this program.

function envoy_on_request(handle)
  local length = tonumber(handle:headers():get("content-length") or "")
  if length and length > most_bytes then
    handle:respond({[":status"] = "413"}, "the request has " .. length .. " bytes; at most " .. most_bytes .. " are taken")
  end
end
