import { expect, test } from 'vitest'
import { RowanError } from '../../../src/errors.ts'
import { type FromDisk, MAX_NOTES, MAX_TOUCHES } from '../../../src/machine/disk-messages.ts'
import { DiskNotes, GATHER_MS, takeNotes } from '../../../src/machine/disk-notes.ts'

type Notes = Extract<FromDisk, { type: 'notes' }>

function makeNotes() {
  const posted: Notes[] = []
  // As the passage to the other thread does.
  const timers: { delayMs: number; run: () => void }[] = []
  const clock = {
    after: (delayMs: number, run: () => void) => {
      timers.push({ delayMs, run })
      return { cancel: () => undefined }
    }
  }
  const notes = new DiskNotes(message => posted.push(structuredClone(message)), { clock })
  return { notes, posted, timers }
}

function taken(messages: Notes[]) {
  const lines: [string, string, Record<string, unknown> | undefined][] = []
  const at = (level: string) => (message: string, values?: Record<string, unknown>) => {
    lines.push([level, message, values])
  }
  const touched: [number, number, number][] = []
  const touches = { touched: (...touch: [number, number, number]) => touched.push(touch) }
  const log = { debug: at('debug'), info: at('info'), warn: at('warn') }
  for (const message of messages) takeNotes({ log, touches }, message, 'm')
  return { lines, touched }
}

test('a line arrives with its values; errors keep their codes', () => {
  const { notes, posted } = makeNotes()
  const error = new RowanError('LAYER_FAILED', 'it failed', { cause: new Error('EIO') })
  notes.log.warn('said', { number: 1, none: undefined, error, what: { deep: [1n] } })
  const { lines } = taken(posted)
  expect(lines).toEqual([['warn', 'said', expect.objectContaining({ number: 1, what: '{"deep":["1"]}' })]])
  expect(lines[0]![2]!.error).toBeInstanceOf(RowanError)
  expect(lines[0]![2]!.error).toMatchObject({ code: 'LAYER_FAILED', message: 'it failed', cause: { message: 'EIO' } })
})

test('one batch is on its way at a time; of the rest so many lines are kept, and the others are counted', () => {
  const { notes, posted } = makeNotes()
  for (let line = 0; line < MAX_NOTES + 11; line++) notes.log.info(`line ${line}`)
  expect(posted).toHaveLength(1)
  notes.taken()
  expect(posted).toHaveLength(2)
  const { lines } = taken(posted)
  expect(lines).toHaveLength(1 + MAX_NOTES + 1)
  expect(lines.at(-1)).toEqual(['warn', 'lines of the log were lost', { disk: 'm', lines: 10 }])
  notes.taken()
  expect(posted).toHaveLength(2)
})

test('first touches are gathered for a moment and go in order', () => {
  const { notes, posted, timers } = makeNotes()
  for (let block = 0; block < 100; block++) notes.touched(block, block / 2, 512 * block)
  expect(posted).toHaveLength(0)
  expect(timers.map(timer => timer.delayMs)).toEqual([GATHER_MS])
  timers[0]!.run()
  expect(posted).toHaveLength(1)
  const { touched } = taken(posted)
  expect(touched).toHaveLength(100)
  expect(touched.slice(0, 3)).toEqual([
    [0, 0, 0],
    [1, 0.5, 512],
    [2, 1, 1024]
  ])
})

test('touches that wait behind a batch go when it was taken; what does not fit is lost', () => {
  const { notes, posted, timers } = makeNotes()
  notes.log.info('a batch')
  for (let block = 0; block < MAX_TOUCHES + 5; block++) notes.touched(block, block, 0)
  expect(timers).toHaveLength(0)
  notes.taken()
  expect(posted).toHaveLength(2)
  expect(taken(posted).touched).toHaveLength(MAX_TOUCHES)
})

test('touches go at once where somebody acts on them, and the timer then finds nothing to send', () => {
  const { notes, posted, timers } = makeNotes()
  notes.sendTouches()
  expect(posted).toHaveLength(0)
  notes.touched(7, 1, 4096)
  notes.sendTouches()
  expect(taken(posted).touched).toEqual([[7, 1, 4096]])
  notes.taken()
  timers[0]!.run()
  expect(posted).toHaveLength(1)
})
