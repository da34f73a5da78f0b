/**
 * A test double at the wire: speaks the frames by hand, to do what no honest peer does.
 */

import type { Stream } from '@libp2p/interface'
import { PROTOCOL } from '../../../src/cluster.ts'
import { FrameParser } from '../../../src/swarm/frame-parser.ts'
import { FRAME, type Frame, type Role } from '../../../src/swarm/frames.ts'
import { haveFrame, helloFrame, imageFrame, nodesFrame, readGetNodes, readWant } from '../../../src/swarm/messages.ts'
import { startLibp2p, type TestImage, type TestLibp2p, until } from './support.ts'

/** One end of a stream, with all frames that came. */
export class WireEnd {
  readonly stream: Stream
  readonly frames: Frame[] = []
  closed = false

  constructor(stream: Stream, from: Role, onFrame?: (frame: Frame, end: WireEnd) => void) {
    this.stream = stream
    const parser = new FrameParser(from)
    stream.addEventListener('message', event => {
      const { data } = event
      if (data instanceof Uint8Array) parser.push(data)
      else for (const piece of data) parser.push(piece)
      for (let frame = parser.next(); frame !== undefined; frame = parser.next()) {
        this.frames.push(frame)
        onFrame?.(frame, this)
      }
    })
    stream.addEventListener('close', () => {
      this.closed = true
    })
    stream.addEventListener('remoteCloseWrite', () => {
      this.closed = true
    })
  }

  send(...frames: Uint8Array[]): void {
    for (const frame of frames) this.stream.send(frame)
  }

  ofType(type: number): Frame[] {
    return this.frames.filter(frame => frame.type === type)
  }

  async next(type: number, count = 1): Promise<Frame> {
    await until(() => this.ofType(type).length >= count, `frame ${count} of type ${type}`)
    return this.ofType(type)[count - 1]!
  }
}

export interface DoubleServer {
  network: TestLibp2p
  ends: WireEnd[]
  stop(): Promise<void>
}

/** A replica that says HELLO and serves an image's root and index as it should; what it does when asked for blocks is the test's. */
export async function startDouble(
  image: TestImage,
  onWant: (end: WireEnd, handle: number, blocks: number[]) => void,
  options: { onFrame?: (frame: Frame, end: WireEnd) => boolean } = {}
): Promise<DoubleServer> {
  const network = await startLibp2p()
  const ends: WireEnd[] = []
  await network.handle(PROTOCOL.blocks, stream => {
    ends.push(
      new WireEnd(stream, 'requester', (frame, end) => {
        if (options.onFrame?.(frame, end)) return
        if (frame.type === FRAME.hello) end.send(helloFrame('double', 0))
        if (frame.type === FRAME.open) {
          const top = image.nodes.at(-1)![1]
          end.send(
            imageFrame(frame.handle, { root: image.rootBytes, top, complete: true, follow: 0 }),
            haveFrame(frame.handle, true, [])
          )
        }
        if (frame.type === FRAME.getNodes) end.send(nodesFrame(frame.handle, [], readGetNodes(frame).refs))
        if (frame.type === FRAME.want) onWant(end, frame.handle, readWant(frame).blocks)
      })
    )
  })
  return { network, ends, stop: async () => network.stop() }
}
