/**
 * Streams that do not wait to be told that their protocol is spoken.
 *
 * libp2p asks for a stream's protocol (multistream-select) and waits for the answer before it hands the stream out: a whole round trip
 * for each stream, and a start opens three of them one after the other. But a peer of this network speaks rowan's protocols; so here
 * question and first words leave together, and the answer is taken off the front of what comes back. On the wire nothing is new: it is
 * multistream-select's own exchange, and the other end cannot tell the difference.
 *
 *     waiting:  ask ─────────> <───────── yes   request ─────────> <───────── answer
 *     eager:    ask, request ─────────> <───────── yes, answer
 *
 * Whoever answers anything else loses the stream, as a peer that does not speak the protocol does anyhow; only the error comes later,
 * to whoever reads. One protocol is different: whether a peer speaks the DHT's says that it is a server of it, and libp2p notes that
 * for its routing table when a stream has been handed out. So that one is taken for granted only where it was accepted on the
 * same connection before.
 *
 * The end that opens must not close its way out before it has read: a first message and the end of all in one flight is more than
 * libp2p's answering side can take. None of the protocols here does so.
 */
import type { CreateStreamOptions, Stream, StreamMuxer } from '@libp2p/interface'
import { PROTOCOL } from '../cluster.ts'
import { RowanError } from '../errors.ts'

/** What every peer of rowan's speaks. */
const GRANTED: ReadonlySet<string> = new Set([PROTOCOL.blocks, PROTOCOL.directory])
/** What a peer speaks that has spoken it before. */
const GRANTED_AGAIN: ReadonlySet<string> = new Set([PROTOCOL.dht])

const MULTISTREAM = '/multistream/1.0.0'

/** A stream of a muxer, which gives what came from the wire to `onData`. */
export type MuxedStream = Stream & { onData(data: Parameters<Stream['send']>[0]): void }

/** Makes the streams that this end opens eager. */
export function eager<M extends StreamMuxer<MuxedStream>>(muxer: M): M {
  const accepted = new Set<string>()
  const createStream = muxer.createStream.bind(muxer)
  muxer.createStream = async (options?: CreateStreamOptions) => {
    const stream = await createStream(options)
    const protocol = options?.protocol
    if (protocol === undefined) return stream
    if (GRANTED.has(protocol) || accepted.has(protocol)) {
      askEagerly(stream, protocol, () => accepted.delete(protocol))
    } else if (GRANTED_AGAIN.has(protocol)) {
      // The stream gets its protocol's name when it was accepted.
      const note = () => stream.protocol === protocol && accepted.add(protocol)
      stream.addEventListener('close', note, { once: true })
    }
    return stream
  }
  return muxer
}

/** Asks for the protocol, takes a yes for granted, and ends the stream if it turns out to be something else. */
function askEagerly(stream: MuxedStream, protocol: string, refused: () => void): void {
  const yes = Buffer.concat([framed(MULTISTREAM), framed(protocol)])
  const pass = stream.onData.bind(stream)
  let read = 0
  stream.onData = data => {
    const bytes = data.subarray()
    const part = bytes.subarray(0, yes.byteLength - read)
    if (Buffer.compare(part, yes.subarray(read, read + part.byteLength)) !== 0) {
      refused()
      stream.onData = () => undefined
      stream.abort(new RowanError('PEER_GONE', `the peer does not speak ${protocol}`))
      return
    }
    read += part.byteLength
    if (read < yes.byteLength) return
    stream.onData = pass
    pass(bytes.subarray(part.byteLength))
  }
  stream.protocol = protocol
  stream.send(yes)
}

/** As multistream-select writes: its length, which fits one byte here, and a line. */
function framed(line: string): Buffer {
  const text = Buffer.from(`${line}\n`)
  if (text.byteLength > 127) throw new RowanError('WIRE_INVALID', `too long for a protocol's name: ${line}`)
  return Buffer.concat([Buffer.of(text.byteLength), text])
}
