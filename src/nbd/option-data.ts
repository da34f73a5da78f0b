/**
 * The data of options, read from bytes that may say anything. What is wrong with them is said in a sentence.
 */
import { MAX_STRING_BYTES } from './protocol.ts'

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** A name or a query: UTF-8 without NUL, of bounded length; undefined where the bytes are none. */
export function decodeName(bytes: Buffer): string | undefined {
  if (bytes.length > MAX_STRING_BYTES || bytes.includes(0)) return undefined
  try {
    return utf8.decode(bytes)
  } catch {
    // Not UTF-8: no export can have this name, and the caller says so in the way that its option allows.
    return undefined
  }
}

/** INFO and GO: 32 bits length of name, name, 16 bits number of requests, 16 bits each. */
export function decodeInfoRequest(data: Buffer): { name: string; requests: Set<number> } | string {
  const head = decodeHead(data, 2)
  if (typeof head === 'string') return head
  const { name, at } = head
  const count = data.readUInt16BE(at)
  const first = at + 2
  if (data.length !== first + 2 * count) return `${count} information requests do not fill the option exactly`
  const requests = new Set<number>()
  for (let index = 0; index < count; index++) requests.add(data.readUInt16BE(first + 2 * index))
  return { name, requests }
}

/** LIST_META_CONTEXT and SET_META_CONTEXT: name as above, 32 bits number of queries, each with its length before it. */
export function decodeContextRequest(data: Buffer): { name: string; queries: string[] } | string {
  const head = decodeHead(data, 4)
  if (typeof head === 'string') return head
  const { name, at } = head
  const count = data.readUInt32BE(at)
  const queries: string[] = []
  let next = at + 4
  for (let index = 0; index < count; index++) {
    if (data.length - next < 4) return `the option ends before query ${index + 1} of ${count}`
    const queryBytes = data.readUInt32BE(next)
    next += 4
    if (queryBytes > data.length - next) return `a query of ${queryBytes} bytes does not fit into the option`
    const query = decodeName(data.subarray(next, next + queryBytes))
    if (query === undefined) return `a query must be UTF-8 of at most ${MAX_STRING_BYTES} bytes, without NUL`
    queries.push(query)
    next += queryBytes
  }
  if (next !== data.length) return `${count} queries do not fill the option exactly`
  return { name, queries }
}

/** A name with its length before it; behind it there are at least `tailBytes`. */
function decodeHead(data: Buffer, tailBytes: number): { name: string; at: number } | string {
  if (data.length < 4 + tailBytes) return `${data.length} bytes are too few for a name and a number of requests`
  const nameBytes = data.readUInt32BE(0)
  if (nameBytes > data.length - 4 - tailBytes) return `a name of ${nameBytes} bytes does not fit into the option`
  const name = decodeName(data.subarray(4, 4 + nameBytes))
  if (name === undefined) return `a name must be UTF-8 of at most ${MAX_STRING_BYTES} bytes, without NUL`
  return { name, at: 4 + nameBytes }
}
