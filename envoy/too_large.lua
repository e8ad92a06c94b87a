-- A REST request that says that it is too large is refused. What it sends is taken before that, and thrown away piece by
-- piece: many a client reads no answer while it still sends. One that would send far too much is refused at once.
-- This stands in the proxy twice, before and behind what gathers a request: the second one refuses what was taken.
-- `most_bytes` stands before this program; a path with a limit of its own says so in its route.

local MOST_TIMES = 16

local function refuse(handle, length, most)
  handle:respond({[":status"] = "413"}, "the request has " .. length .. " bytes; at most " .. most .. " are taken")
end

function envoy_on_request(handle)
  local most = handle:metadata():get("most_bytes") or most_bytes
  local noted = handle:streamInfo():dynamicMetadata()
  local taken = noted:get("tiation.too_large")
  if taken then return refuse(handle, taken["length"], most) end  -- the header says by now that nothing came
  local length = tonumber(handle:headers():get("content-length") or "")
  if not length or length <= most then return end
  if length > MOST_TIMES * most_bytes then return refuse(handle, length, most) end
  noted:set("tiation.too_large", "length", length)
  for chunk in handle:bodyChunks() do
    chunk:setBytes("")
  end
end
