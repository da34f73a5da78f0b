import { beforeEach, describe, expect, test } from 'vitest'
import { ABSENT, type LocalImage } from '../../../src/store/images.ts'
import { AskedItems, type UploadJob } from '../../../src/swarm/asked-items.ts'
import { FrameParser } from '../../../src/swarm/frame-parser.ts'
import { FRAME, type Frame } from '../../../src/swarm/frames.ts'
import { MAX_QUEUED_PER_REQUESTER } from '../../../src/swarm/limits.ts'
import {
  cancelFrame,
  getNodesFrame,
  type Rank,
  raiseFrame,
  readMissing,
  readNodes,
  wantFrame
} from '../../../src/swarm/messages.ts'
import { OnBehalf } from '../../../src/swarm/on-behalf.ts'
import { OpenedImages } from '../../../src/swarm/opened-images.ts'
import { blockKey, nodeKey } from '../../../src/swarm/scheduler-types.ts'
import { UploadQueue } from '../../../src/swarm/upload-queue.ts'
import { ManualClock } from '../release/support/clock.ts'
import { recordingLog } from './support.ts'

const DEMAND: Rank = 0
const FILL: Rank = 3
const HANDLE = 7
const BLOCKS = 2048
const NODE = new Uint8Array(100).fill(5)

/** An image as far as requests look at it; its store fails for the second page. */
function imageOf(id: string): LocalImage {
  const image = {
    id,
    root: { blocks: BLOCKS, height: 1 },
    complete: true,
    use: () => () => undefined,
    locate: (block: number) => (block === 3 ? ABSENT : block),
    nodeBytes(_level: number, position: number) {
      if (position === 1) throw new Error('a disk that does not read')
      return NODE
    }
  }
  return image as unknown as LocalImage
}

describe('what a requester asked for', () => {
  let images: OpenedImages
  let queue: UploadQueue<AskedItems, UploadJob>
  let asked: AskedItems
  let sent: Frame[]
  let spentBytes: number
  let gave: number
  let log: ReturnType<typeof recordingLog>

  beforeEach(() => {
    sent = []
    spentBytes = 0
    gave = 0
    log = recordingLog()
    images = new OpenedImages()
    images.open(HANDLE, imageOf('an image'), () => false)
    queue = new UploadQueue()
    const onBehalf = new OnBehalf<AskedItems, UploadJob>({ arrived() {}, failed() {}, clock: new ManualClock() })
    asked = new AskedItems({
      frames: { send: bytes => sent.push(framesOf('server', bytes)), writable: true, ended: false },
      ...{ images, queue, onBehalf, log: log.log },
      helperOf: () => undefined,
      gave: () => gave++,
      spent: (_, bytes) => {
        spentBytes += bytes
      },
      work() {}
    })
  })

  function framesOf(from: 'server' | 'requester', bytes: Uint8Array): Frame {
    const parser = new FrameParser(from)
    parser.push(bytes)
    return parser.next()!
  }

  const asks = (bytes: Uint8Array) => framesOf('requester', bytes)
  const want = (blocks: number[], rank: Rank, handle = HANDLE) =>
    asked.want(asks(wantFrame(handle, blocks, rank, true)))
  const missing = () => sent.filter(({ type }) => type === FRAME.missing).map(readMissing)

  test('waits in the queue, blocks and nodes alike, and rises in it', () => {
    want([1, 2], FILL)
    asked.getNodes(asks(getNodesFrame(HANDLE, [{ level: 0, position: 1 }], FILL)))
    asked.raise(asks(raiseFrame(HANDLE, [2], [{ level: 0, position: 1 }], DEMAND)))
    const turns = Array.from({ length: 4 }, () => queue.next(() => true)?.key)
    expect(turns).toEqual([blockKey(HANDLE, 2), nodeKey(HANDLE, 0, 1), blockKey(HANDLE, 1), undefined])
    expect(sent).toEqual([])
  })

  test('is refused at once where the queue takes no more, and where nobody fetches for the requester', () => {
    for (let from = 0; from < MAX_QUEUED_PER_REQUESTER; from += 512) {
      want(
        Array.from({ length: 512 }, (_, n) => from + n),
        FILL
      )
    }
    expect(sent).toEqual([])
    want([5, MAX_QUEUED_PER_REQUESTER], FILL)
    expect(missing()).toEqual([{ blocks: [MAX_QUEUED_PER_REQUESTER], reason: 'refused' }])
    asked.getNodes(asks(getNodesFrame(HANDLE, [{ level: 0, position: 0 }], DEMAND)))
    expect(readNodes(sent.at(-1)!)).toEqual({ parts: [], missing: [{ level: 0, position: 0 }] })
    asked.release(HANDLE)
    asked.want(asks(wantFrame(HANDLE, [3], DEMAND, true, true)))
    expect(missing().at(-1)).toEqual({ blocks: [3], reason: 'refused' })
  })

  test('is answered once when it is called off, wherever it is by then', () => {
    asked.grant(1)
    want([1, 2, 4], FILL)
    queue.next(() => true)
    asked.outgoing.add(blockKey(HANDLE, 1), FILL, new Uint8Array(10))
    queue.next(() => true)
    const read = asked.outgoing.readBegins(blockKey(HANDLE, 2), FILL)
    asked.cancel(asks(cancelFrame(HANDLE, [1, 2, 4, 9])))
    expect(missing()).toEqual([{ blocks: [1, 2, 4], reason: 'cancelled' }])
    expect([read.isOver, queue.count(asked), gave]).toEqual([true, 0, 0])
    asked.cancel(asks(cancelFrame(HANDLE, [1, 2, 4])))
    expect(sent).toHaveLength(1)
  })

  test('of a handle that is released is forgotten, and that of others is not', () => {
    images.open(HANDLE + 1, imageOf('another'), () => false)
    want([1], FILL)
    want([1], FILL, HANDLE + 1)
    asked.release(HANDLE)
    expect(queue.next(() => true)?.key).toBe(blockKey(HANDLE + 1, 1))
    expect(queue.next(() => true)).toBeUndefined()
  })

  test('is missing when the image is not here (yet)', () => {
    images.awaits(HANDLE + 1, { id: 'to come', index: 0 })
    want([1, 2], DEMAND, HANDLE + 1)
    expect(missing()).toEqual([{ blocks: [1, 2], reason: 'absent' }])
    expect(queue.count(asked)).toBe(0)
  })

  test('and nobody can mean ends the stream', () => {
    const invalid = expect.objectContaining({ code: 'WIRE_INVALID' })
    expect(() => want([BLOCKS], DEMAND)).toThrow(invalid)
    expect(() => want([1], DEMAND, HANDLE + 1)).toThrow(invalid)
    expect(() => asked.cancel(asks(cancelFrame(HANDLE + 1, [1])))).toThrow(invalid)
    expect(() => asked.getNodes(asks(getNodesFrame(HANDLE, [{ level: 0, position: 2 }], DEMAND)))).toThrow(invalid)
  })

  test('of an index counts against the rate, and is missing where the store fails', () => {
    asked.answerNode(nodeKey(HANDLE, 0, 0))
    expect(readNodes(sent[0]!).parts).toMatchObject([{ level: 0, position: 0 }])
    expect(spentBytes).toBeGreaterThan(NODE.byteLength)
    expect(gave).toBe(1)
    asked.answerNode(nodeKey(HANDLE, 0, 1))
    expect(readNodes(sent[1]!).missing).toEqual([{ level: 0, position: 1 }])
    expect(log.lines).toMatchObject([{ level: 'warn', values: { code: 'STORE_IO' } }])
    expect(gave).toBe(1)
  })

  test('is read two at a time, and beside demand not while a block waits for credit', () => {
    asked.grant(1)
    expect(asked.canTake(FILL)).toBe(true)
    asked.outgoing.add(blockKey(HANDLE, 1), FILL, new Uint8Array(10))
    expect([asked.canTake(FILL), asked.canTake(DEMAND)]).toEqual([false, true])
    asked.grant(1000)
    expect([asked.canTake(FILL), asked.servedBlocks, asked.servedBytes, gave]).toEqual([true, 1, 10, 1])
    for (const block of [2, 3]) asked.outgoing.readBegins(blockKey(HANDLE, block), DEMAND)
    expect(asked.canTake(DEMAND)).toBe(false)
  })
})
