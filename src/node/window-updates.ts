/**
 * Yamux's window updates, a few at a time.
 *
 * libp2p's Yamux tells the sender after every frame how much more it may send: for each block one more message to encipher, to write,
 * to wake up for and to decipher. Here an eighth of the window must have come first. That leaves the sender at least seven eighths of
 * the window, and the window of a long and fast line grows as before.
 *
 * Only of streams that this end opened: what comes on the others are requests. On the wire, Yamux leaves to the receiver when it tells.
 */
import type { CreateStreamOptions, StreamMuxer } from '@libp2p/interface'
import type { MuxedStream } from './eager-streams.ts'

const LEAST_SHARE = 1 / 8
/** Of libp2p's states of a stream: both ends know of it, and it is not paused. */
const ESTABLISHED = 3

/** What Yamux's streams have, and their types do not tell. */
interface WindowedStream {
  state: number
  recvWindow: number
  recvWindowCapacity: number
  sendWindowUpdate(): void
}

/** Makes the streams that this end opens thrifty with updates. */
export function gatherWindowUpdates<M extends StreamMuxer<MuxedStream>>(muxer: M): M {
  const createStream = muxer.createStream.bind(muxer)
  muxer.createStream = async (options?: CreateStreamOptions) => {
    const stream = await createStream(options)
    gather(stream as unknown as WindowedStream)
    return stream
  }
  return muxer
}

function gather(stream: WindowedStream): void {
  const tell = stream.sendWindowUpdate.bind(stream)
  stream.sendWindowUpdate = () => {
    const { recvWindow, recvWindowCapacity } = stream
    if (stream.state === ESTABLISHED && recvWindow - recvWindowCapacity < recvWindow * LEAST_SHARE) return
    tell()
  }
}
