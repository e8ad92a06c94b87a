-- A REST reader that sends the ETag it has is answered 304 without a body while the answer would be the same.

local function is_among(etag, listed)
  local bare = etag:gsub("^W/", "")
  for one in listed:gmatch("[^,]+") do
    one = one:match("^%s*(.-)%s*$"):gsub("^W/", "")
    if one == bare or one == "*" then
      return true
    end
  end
  return false
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local held = headers:get("if-none-match")
  if held and headers:get(":method") == "GET" then
    handle:streamInfo():dynamicMetadata():set("tiation.not_modified", "held", held)
  end
end

function envoy_on_response(handle)
  local kept = handle:streamInfo():dynamicMetadata():get("tiation.not_modified")
  local headers = handle:headers()
  local etag = headers:get("etag")
  if kept == nil or etag == nil or headers:get(":status") ~= "200" or not is_among(etag, kept["held"]) then
    return
  end
  headers:replace(":status", "304")
  headers:remove("content-length")
  headers:remove("content-type")
  local body = handle:body()
  if body then
    body:setBytes("")
  end
end
